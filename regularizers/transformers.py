"""Moved to :mod:`comhe.regularizers.integrations.transformers`; this name goes with the next release."""

import warnings

from .integrations.transformers import RegularizerCallback as RegularizerCallback

warnings.warn("import comhe.regularizers.integrations.transformers instead", DeprecationWarning, stacklevel=2)
