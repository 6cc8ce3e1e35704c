"""Classes by name in the C++ program are Python's, and so are the nearest names of an error."""

import json
from pathlib import Path

import numpy as np
from kits import Kit

from explainable_model.errors import InputError
from explainable_model.explainer.answers import resolve_class
from explainable_model.explanation import PREDICTED

OTHERS = (
    "Straße",
    "ΑΡΚΟΎΔΑ",
    "Ёж, hedgehog",
    "\uff23\uff21\uff34",
    "İnek",
    "ﬁsh",
    "猫",
    "crane, bird",
    "crane, machine",
    "x" * 250 + "yz",
)
WORDS = (
    "tabby", "TABBY cat", " Egyptian cat ", "285", "+285", "1000000", "-1", "9" * 30, "tabi", "egyptien cat", "krane",
    "crane", "STRASSE", "αρκούδα", "ёЖ", "hedgehogs", "cat", "İNEK", "FISH", "猫", "犬", "zzzz", "x" * 240 + "zy", "",
    "\u3000tabby\u00a0", "w" * 1001, "crane, bird", "Löwe",
)  # fmt: skip


def test_classes_are_pythons(quick_kit: Kit, network, tmp_path: Path) -> None:
    names = [*network.class_names, *OTHERS]
    random = np.random.default_rng(0)
    misspelled = ["".join(random.permutation(list(name))[:-1]) for name in random.choice(names, 20)]
    shortened = [name[: len(name) // 2 + 2] for name in random.choice(names, 40)]
    words = [*WORDS, *misspelled, *shortened]
    write_record(tmp_path / "record.json", names)
    (tmp_path / "words.txt").write_text("\n".join(words) + "\n")
    done = quick_kit.run("check", "classes", tmp_path / "record.json", tmp_path / "words.txt")
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(zip(words, done.stdout.splitlines(), strict=True))
    assert found == {word: resolve(word, names) for word in words}
    assert sum("Nearest: " in line for line in found.values()) > 10
    assert found["Löwe"].startswith("There is no class 'Löwe' among 1010.")


def test_a_class_of_an_artifact_without_names_has_a_number(quick_kit: Kit, tmp_path: Path) -> None:
    write_record(tmp_path / "record.json", None)
    (tmp_path / "words.txt").write_text("tabby\n1\n5\n")
    found = quick_kit.run("check", "classes", tmp_path / "record.json", tmp_path / "words.txt").stdout.splitlines()
    assert found == [resolve("tabby", None), "1", "The class is 5; expected 0 to 1."]


def resolve(word: str, names: list[str] | None) -> str:
    """The class in Python, or its message."""
    try:
        found = resolve_class(word, names)
        return str(PREDICTED if found is None else found)
    except InputError as error:
        return str(error)


def write_record(path: Path, names: list[str] | None) -> None:
    classes = len(names) if names else 2
    record = {
        **dict.fromkeys(("format", "model", "method", "target_layer"), "any"),
        **{"schema_version": 1, "dtype": "float32", "classes": classes, "cam_range": [0, 1], "class_names": names},
        **{"image_shape": [None, 3, 8, 8], "logits_shape": [None, classes], "cam_shape": [None, 8, 8]},
    }
    path.write_text(json.dumps(record))
