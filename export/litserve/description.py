"""The OpenAPI description of the server, which ``/docs`` answers: the HTTP contract, path by path."""

from typing import Any

PICTURE = {"type": "string", "format": "binary"}
TEXT = {"type": "string"}
REFUSALS = {
    400: "No picture, a damaged picture, no JSON, an unknown class, or a field that cannot be read.",
    401: "The header X-API-Key is missing or wrong.",
    404: "There is no model of that name.",
    408: "The body did not arrive in time.",
    413: "The body or the picture is too large.",
    415: "The bytes are not a picture, or one of another format.",
    500: "The server failed.",
}
OPTIONS = {
    "class": "Of a classifier: the number or name of the class to explain; by default the predicted class.",
    "box": "Of a detector: the rank of the box to explain; by default the best boxes.",
    "top": "How many of the best classes or boxes to list; by default 5 classes, or all boxes.",
    "window": "LOW,HIGH: the values of a picture of more than 8 bits that become black and white.",
    "accept": "application/json or image/png, for clients that cannot set the header Accept.",
}


def describe(name: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server.

    Args:
        name: the model's name in URLs.
    """
    explain = {"post": describe_explanation()}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1", "description": "Explains pictures: a class, and where it was seen."},
        "paths": {
            f"/predictions/{name}": explain,
            f"/explanations/{name}": explain,
            "/health": {"get": {"security": [], **describe_page("Ready (200) or not (503).", "text/plain")}},
            "/metrics": {"get": describe_page("Counts in Prometheus's text format.", "text/plain")},
            "/docs": {"get": describe_page("This document.", "application/json")},
        },
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
            "schemas": {
                "Explanation": describe_answer(),
                "Detections": describe_boxes(),
                "Refusal": describe_refusal(),
            },
        },
        "security": [{"key": []}],
    }


def describe_explanation() -> dict[str, Any]:
    """The operation that explains a picture."""
    choices = {option: {**TEXT, "description": text} for option, text in OPTIONS.items()}
    bodies = {
        "application/octet-stream": PICTURE,
        "image/*": PICTURE,
        "multipart/form-data": describe_fields({"image": PICTURE, **choices}),
        "application/json": describe_fields({"image": {**TEXT, "contentEncoding": "base64"}, **choices}),
    }
    for option in ("class", "box", "top"):
        number = {"type": ["string", "integer"], "description": OPTIONS[option]}
        bodies["application/json"]["properties"][option] = number
    either = {"oneOf": [refer_to("Explanation"), refer_to("Detections")]}
    answers = {"application/json": either, "image/png": PICTURE}
    refusals = {
        str(status): {"description": text, "content": as_content({"application/json": refer_to("Refusal")})}
        for status, text in REFUSALS.items()
    }
    named = {"name": "X-Request-Id", "in": "header", "required": False, "schema": TEXT}
    answer = {
        "description": "The class and its heatmap, or the boxes with theirs, or the photo under it.",
        "content": as_content(answers),
    }
    return {
        "summary": "Explain a picture",
        "parameters": [{**named, "description": "1 to 64 of A-Z a-z 0-9 . _ -; returned, and written to the log."}],
        "requestBody": {"required": True, "content": as_content(bodies)},
        "responses": {"200": answer, **refusals},
    }


def describe_page(summary: str, content_type: str) -> dict[str, Any]:
    """An operation without a request body."""
    return {
        "summary": summary,
        "responses": {"200": {"description": summary, "content": as_content({content_type: {}})}},
    }


def describe_fields(properties: dict[str, Any]) -> dict[str, Any]:
    """A body of fields, of which the picture is required."""
    return {"type": "object", "properties": properties, "required": ["image"]}


def describe_answer() -> dict[str, Any]:
    """The answer to a picture; networks without one score per class have no probability and no best classes."""
    number = {"type": "number"}
    probability = {"type": ["number", "null"]}
    return {
        "type": "object",
        "required": ["class_idx", "score", "heatmap", "range", "size", "box"],
        "properties": {
            "class_idx": {"type": "integer"},
            "class_name": {"type": ["string", "null"]},
            "probability": probability,
            "output_kind": {"type": ["string", "null"]},
            "score": number,
            "top": {"type": ["array", "null"], "items": {"type": "object"}},
            "heatmap": {**TEXT, "contentEncoding": "base64", "contentMediaType": "image/png"},
            "range": {"type": "array", "items": number, "minItems": 2, "maxItems": 2},
            "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "box": {"type": "array", "items": number, "minItems": 4, "maxItems": 4},
            "others": {"type": "array", "items": {"type": "object"}},
        },
    }


def describe_boxes() -> dict[str, Any]:
    """The answer of a detector: each box with its heatmap, the best first."""
    number = {"type": "number"}
    edges = {"type": "array", "items": number, "minItems": 4, "maxItems": 4}
    pair = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    box = {
        "box": edges,
        "class_idx": {"type": "integer"},
        "class_name": {"type": ["string", "null"]},
        "score": number,
        "hottest": pair,
        "heatmap": {**TEXT, "contentEncoding": "base64", "contentMediaType": "image/png"},
        "range": pair,
    }
    return {
        "type": "object",
        "required": ["task", "boxes", "size", "seen"],
        "properties": {
            "task": {"const": "detection"},
            "boxes": {"type": "array", "items": {"type": "object", "required": list(box), "properties": box}},
            "size": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            "seen": edges,
        },
    }


def describe_refusal() -> dict[str, Any]:
    """The body of every other status."""
    return {
        "type": "object",
        "required": ["code", "type", "message"],
        "properties": {"code": {"type": "integer"}, "type": TEXT, "message": TEXT},
    }


def refer_to(schema: str) -> dict[str, str]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{schema}"}


def as_content(schemas: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The schemas by content type, as OpenAPI nests them."""
    return {content_type: {"schema": schema} for content_type, schema in schemas.items()}
