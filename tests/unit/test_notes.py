"""What the data say of themselves reaches every artifact that was made from them."""

from trap2.data.prepared import notes
from trap2.report.notes import add_caption_notes, add_closing_notes, add_notes, notes_of
from trap2.runtime import files


def test_a_jobs_notes_are_those_of_its_manifests(tmp_path):
    for task, own in (("cars", ["leak"]), ("dtd", []), ("svhn", ["leak", "b"])):
        files.write_json(tmp_path / task / "manifest.json", {"notes": own})
    files.write_json(tmp_path / "digits" / "manifest.json", {"task": "digits"})
    paths = [str(path) for path in tmp_path.rglob("manifest.json")]
    assert notes([*paths, str(tmp_path / "cars" / "train.images.npy")]) == ["b", "leak"]
    assert notes([]) == []


def test_a_table_has_the_column_only_where_there_is_something_to_note():
    rows = [{"a": "1"}, {"a": "2"}]
    assert add_notes(["a"], rows, [{"notes": []}, {}]) == ["a"]
    assert rows == [{"a": "1"}, {"a": "2"}]
    records = [{"notes": ["second"]}, {"notes": ["first", "second"]}, {}]
    assert add_notes(["a"], rows, records) == ["a", "notes"]
    assert rows == [{"a": "1", "notes": "first second"}, {"a": "2", "notes": "first second"}]


def test_captions_and_texts_carry_notes():
    records = [{"notes": ["one two three"]}]
    assert notes_of(records) == "one two three"
    assert add_caption_notes("about", records) == "one two three\nabout"
    assert add_caption_notes("about", [{}]) == "about"
    assert add_closing_notes("text\n", [{"notes": "n"}, {"notes": "n"}]) == "text\n\nNote: n\n"
    assert add_closing_notes("text\n", [{"a": "1"}]) == "text\n"
