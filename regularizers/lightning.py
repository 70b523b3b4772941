"""Moved to :mod:`comhe.regularizers.integrations.lightning`; this name goes with the next release."""

import warnings

from .integrations.lightning import RegularizerCallback as RegularizerCallback

warnings.warn("import comhe.regularizers.integrations.lightning instead", DeprecationWarning, stacklevel=2)
