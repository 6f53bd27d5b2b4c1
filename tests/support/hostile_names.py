"""Names that somebody may give a host, a guest, a project or a flavor, to break what shows them."""

from __future__ import annotations

HOSTILE = {
    "script": "<script>document.title='owned'</script>",
    "attribute": "\" onmouseover=alert(1) x='",
    "image": "<img src=x onerror=alert(1)>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "entity": "&lt;b&gt;&#x27;",
    "line": "first\nsecond\r\nthird",
    "terminal": "\x1b[2J\x1b]0;owned\x07",
    "direction": "abc\u202egnp.exe",
    "long": "x" * 10_000,
    "not UTF-8": "caf\udce9",
    "nothing": " ",
    "query": "a&target=b#c?d=/../..",
}
