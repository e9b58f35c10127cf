"""Envoy's matches: what a request must be to take a route."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mockservice.lanes.envoy_parts import string_match
from mockservice.mesh.model import Text

if TYPE_CHECKING:
    from mockservice.lanes.envoy_parts import Json
    from mockservice.mesh.model import Match


def match_of(match: Match) -> Json:
    """A `RouteMatch` of what the caller does not decide."""
    translated = _path(match.uri)
    headers = [_header(name, text) for name, text in match.headers]
    if match.method is not None:
        headers.append(_header(":method", match.method))
    headers += [
        {**_header(name, text, missing_is_empty=True), "invert_match": True}
        for name, text in match.without_headers
    ]
    if match.authority is not None:
        headers.append(_header(":authority", match.authority))
    if match.scheme is not None:
        headers.append(_header(":scheme", match.scheme))
    if headers:
        translated["headers"] = headers
    if match.query:
        translated["query_parameters"] = [
            {"name": name, "present_match": True}
            if text.kind == "present"
            else {"name": name, "string_match": string_match(text)}
            for name, text in match.query
        ]
    return translated


def _path(uri: Text | None) -> Json:
    path = _path_pattern(uri)
    if uri is not None and uri.ignores_case and uri.kind != "regex":
        path["case_sensitive"] = False
    return path


def _path_pattern(uri: Text | None) -> Json:
    match uri:
        case Text("exact", value):
            return {"path": value}
        case Text("prefix", value):
            return {"prefix": value}
        case Text("regex", value):
            return {"safe_regex": {"regex": value}}
        case Text("segments", value) if value.rstrip("/"):
            return {"path_separated_prefix": value.rstrip("/")}
        case _:
            return {"prefix": "/"}


def _header(name: str, text: Text, missing_is_empty: bool = False) -> Json:
    if text.kind == "present":
        return {"name": name, "present_match": True}
    header: Json = {"name": name, "string_match": string_match(text)}
    if missing_is_empty:
        header["treat_missing_header_as_empty"] = True
    return header
