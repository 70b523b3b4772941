"""Formulas as pictures that are made with the page: no script, no fonts of the reader's, and no network."""

import html
import re

import ziamath
from docutils import nodes

SIZE = 17.0  # pixels, a little more than the text's


def picture(latex, inline):
    """A formula as SVG in the color of the text, on its line, with its source for those who do not see it."""
    # ziamath stretches what is between \left and \right without end.
    text = re.sub(r"\\(?:left|right)(?![a-z])(?=[()\[\]])", "" if inline else r"\\Big", latex)
    text = re.sub(r"\\(?:left|right)(?![a-z])", "", text)
    formula = ziamath.Latex(text, size=SIZE, inline=inline)
    svg = formula.svg().replace('"black"', '"currentColor"')
    label = html.escape(" ".join(latex.split()), quote=True)
    style = f"vertical-align: {formula.getyofst():.2f}px" if inline else ""
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" style="{style}" ', 1)


def inline(translator, node):
    translator.body.append(picture(node.astext(), inline=True))
    raise nodes.SkipNode


def block(translator, node):
    translator.body.append(f'<div class="formula">{picture(node.astext(), inline=False)}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("svg", (inline, None), (block, None))
    app.config.html_math_renderer = "svg"
    return {"parallel_read_safe": True}
