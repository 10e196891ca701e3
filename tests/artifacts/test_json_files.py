import pytest

from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.errors import UserError


def test_a_written_file_is_indented_json_that_reads_back_equal(tmp_path):
    content = {"name": "Größe", "values": [1, 0.1, None], "none": {}}
    write_json(tmp_path / "new" / "file.json", content)
    text = (tmp_path / "new" / "file.json").read_text()
    assert text.startswith('{\n  "name": ')
    assert text.endswith("}\n")
    assert read_json(tmp_path / "new" / "file.json") == content


def test_a_number_that_json_lacks_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "file.json", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "file.json", float("nan"))
    assert read_json(tmp_path / "file.json") == 1


@pytest.mark.parametrize("content", [b'{"cut": ', b"", b"\xff\xfe\xff"])
def test_a_damaged_file_is_named_with_a_remedy(tmp_path, content):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(UserError, match="damaged, it is not JSON") as raised:
        read_json(tmp_path / "file.json")
    assert raised.value.where == str(tmp_path / "file.json")
    assert "run the stage that writes it again" in raised.value.remedy


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_json(tmp_path / "file.json")
