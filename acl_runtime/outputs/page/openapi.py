"""The OpenAPI document of the page's addresses for machines."""

from __future__ import annotations

from typing import Any

_OK = "200"


def _answer(text: str, media_type: str = "application/json", **properties: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    if properties:
        described = {name: {"description": meaning} for name, meaning in properties.items()}
        schema["properties"] = {"schema": {"type": "integer", "const": 1}, **described}
    content = {media_type: {"schema": schema if media_type == "application/json" else {"type": "string"}}}
    return {"description": text, "content": content}


def _parameter(name: str, where: str, meaning: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": meaning,
        "schema": {"type": "integer", "minimum": 0} | schema,
    }


_AFTER = [
    _parameter("after", "query", "Answer those with a higher number; 0 for all that are kept."),
    _parameter("limit", "query", "Most to answer, 1 to 500.", minimum=1, maximum=500),
]
_NUMBER = _parameter("number", "path", "Of a part, or of a record of a web.")
_ERROR = {"description": "Why not, as {schema, error}."}
_PART = (
    "Each with number, part_id, camera, verdict (ok, ng, not judged), reason, exposed_at, latency_ms, deadline_ms, "
    "score, peak, threshold, peak_threshold, decided_by, regions."
)

_NOW = (
    "score, peak (null: it does not decide), statement (the promise, or who set them by hand), record of the bundle, "
    "created, by (empty where they were measured), fixed (why they cannot be changed here; empty where they can)."
)
_PROPOSAL = (
    "state (working, ready, failed), words, score, peak, facts, id (of this one alone); null without any."
)
_SEEN = "record of the thresholds that the person saw."


def _change(summary: str, **properties: str) -> dict[str, Any]:
    described = {name: {"description": meaning} for name, meaning in properties.items()}
    schema = {"type": "object", "required": list(properties), "properties": described}
    return {
        "summary": f"{summary}; needs the administrator's token",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            _OK: _answer("In force.", now=_NOW),
            "403": _ERROR,
            "409": {
                "description": "Others are in force or proposed by now, or the bundle was replaced; look again."
            },
            "422": _ERROR,
        },
    }


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Inspection station", "version": "1"},
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    "security": [{"token": []}, {}],
    "paths": {
        "/api/state": {
            "get": {
                "summary": "How the station is, and its newest part",
                "responses": {
                    _OK: _answer(
                        "The state.",
                        title="Of the page.",
                        status="State, faults, warnings, cameras and counters; null before the first.",
                        outputs="Name, dropped and problem of each.",
                        last="The newest part, as of /api/verdicts; null before the first.",
                        thresholds="From what on score and peak are NG now, as of /api/thresholds.",
                        proposal="As of /api/thresholds.",
                        latency_ms="p50 and p99 of the parts that are kept, and the deadline.",
                        trend="Of the newest 120 parts: number, verdict (0 ok, 1 ng, 2 not judged), score, peak.",
                        shown="Number of the newest frame of each camera.",
                        pictures="Numbers of NG parts or defects whose pictures are kept, oldest first.",
                        roll="Name, metres, width_mm and newest record of the roll that runs; null in part mode.",
                        reviews="Whether pictures can be reviewed.",
                    )
                },
            }
        },
        "/api/verdicts": {
            "get": {
                "summary": "Parts that are kept, oldest first",
                "parameters": _AFTER,
                "responses": {
                    _OK: _answer("Parts.", verdicts=_PART, last="Number to ask for next, as after."),
                    "422": _ERROR,
                },
            }
        },
        "/api/defects": {
            "get": {
                "summary": "Defects, lost lines and rules that were met, of the roll that runs",
                "parameters": _AFTER,
                "responses": {
                    _OK: _answer(
                        "Records, as outputs tell them.",
                        records="Oldest first.",
                        last="Number to ask for next.",
                    ),
                    "422": _ERROR,
                },
            }
        },
        "/api/scores": {
            "get": {
                "summary": "Scores and peaks of all parts that are kept",
                "responses": {_OK: _answer("Lists of equal length.", score="Scores.", peak="Peaks.")},
            }
        },
        "/api/pictures/{number}/{which}": {
            "get": {
                "summary": "The picture of an NG part or of a defect",
                "parameters": [
                    _NUMBER,
                    _parameter(
                        "which", "path", "overlay: under its map", type="string", enum=["overlay", "picture"]
                    ),
                ],
                "responses": {_OK: _answer("The picture.", "image/jpeg"), "404": _ERROR},
            }
        },
        "/api/frames/{camera}/{which}": {
            "get": {
                "summary": "The newest frame of a camera, with X-Part and X-Verdict",
                "parameters": [
                    _parameter("camera", "path", "Position in shown, from 0."),
                    _parameter(
                        "which", "path", "overlay: under its map", type="string", enum=["overlay", "picture"]
                    ),
                ],
                "responses": {_OK: _answer("The picture.", "image/jpeg"), "404": _ERROR},
            }
        },
        "/api/strip": {
            "get": {
                "summary": "The newest metres of a web, small: a column is X-Lines lines, the newest at the right",
                "parameters": [
                    _parameter("strip", "query", "X-Strip of the answer before; 0 at first."),
                    _parameter(
                        "after", "query", "Column to begin with: X-First and the width of the answer before."
                    ),
                ],
                "responses": {
                    _OK: _answer("The picture, whose first column has the number X-First.", "image/jpeg"),
                    "204": {"description": "Nothing new, or no web."},
                    "422": _ERROR,
                },
            }
        },
        "/api/inspect": {
            "post": {
                "summary": "Judge a picture; refused while parts need the engine",
                "requestBody": {
                    "required": True,
                    "description": "A file such as PNG or JPEG, 16 MB and 32 megapixels at most.",
                    "content": {"application/octet-stream": {"schema": {"type": "string"}}},
                },
                "responses": {
                    _OK: _answer(
                        "The verdict, with the keys of acl run --json.", verdict="ok, ng or not judged."
                    ),
                    "413": _ERROR,
                    "422": _ERROR,
                    "503": _ERROR,
                },
            }
        },
        "/api/review/{number}": {
            "post": {
                "summary": "Say what a person sees on a picture; needs the administrator's token",
                "parameters": [_NUMBER],
                "requestBody": {
                    "required": True,
                    "content": {"text/plain": {"schema": {"enum": ["good", "defect", "unsure"]}}},
                },
                "responses": {
                    _OK: _answer(
                        "Noted.",
                        number="Of the part.",
                        mark="As given.",
                        proposal="That reviews contradict the thresholds, or null.",
                    ),
                    "403": _ERROR,
                },
            }
        },
        "/api/thresholds": {
            "get": {
                "summary": "From what on parts are NG now, and what is proposed",
                "responses": {
                    _OK: _answer(
                        "The thresholds.",
                        now=_NOW,
                        proposal=_PROPOSAL,
                        due="That reviews contradict them; null while they do not.",
                        may_change="Whether the caller's token is an administrator's.",
                    )
                },
            },
            "post": _change(
                "Set them by hand, from the next frame on and after a restart; nothing is promised of them",
                score="Smallest score that is NG, above 0 and up to 1.",
                peak="Smallest peak of the map that is NG; null: the score alone decides.",
                seen=_SEEN,
            ),
        },
        "/api/thresholds/restore": {"post": _change("Take back the last change", seen=_SEEN)},
        "/api/proposal": {
            "post": {
                "summary": "Begin to work out thresholds from reviewed parts; needs the administrator's token",
                "responses": {
                    "202": _answer("Begun.", proposal=_PROPOSAL),
                    "403": _ERROR,
                    "422": _ERROR,
                    "503": _ERROR,
                },
            }
        },
        "/api/proposal/accept": {
            "post": _change(
                "Take the thresholds that are proposed",
                proposal="id of the proposal that the person saw.",
                seen=_SEEN,
            )
        },
        "/api/proposal/drop": {
            "post": {
                "summary": "Forget what is proposed; needs the administrator's token",
                "responses": {_OK: _answer("Forgotten.", proposal="Null."), "403": _ERROR},
            }
        },
        "/events": {
            "get": {
                "summary": "The object of /api/state whenever it changes, as server-sent events",
                "responses": {_OK: _answer("A stream.", "text/event-stream")},
            }
        },
        "/metrics": {
            "get": {
                "summary": "For Prometheus",
                "responses": {_OK: _answer("Text format 0.0.4.", "text/plain")},
            }
        },
        "/healthz": {
            "get": {
                "summary": "200 while the station inspects or could, else 503; needs no token",
                "security": [{}],
                "responses": {_OK: _answer("Well.", state="Of the station."), "503": {"description": "Not."}},
            }
        },
    },
}
