"""A report on the collector's store to look at: one HTML file that asks for nothing else.

accuracy  what canary draws with labels say of all frames
facts     the numbers, gathered in one pass
pictures  small pictures with boxes
draw      charts and tables
page      the sections; page.html and style.css: frame and looks
"""

from agent.dataset.report.write import report

__all__ = ["report"]
