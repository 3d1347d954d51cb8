"""`ssl-zoo list`: tables and pages of what there is, without torch."""

import pytest
from zoo_backbones import discover

from ssl_zoo.cli.listing import about, listing, show
from ssl_zoo.compose.catalogue import cards, choice, recipes
from ssl_zoo.compose.places import options
from ssl_zoo.leaderboard.board import LABELLED


def test_cards_say_what_the_classes_say():
    classes = {cls.__name__: cls for cls in discover()}
    found = [card for card in cards() if card.file is not None]
    assert {card.cls for card in found} == set(classes)
    for card in found:
        cls = classes[card.cls]
        assert card.family == cls.family
        if cls.__name__ != "Sum":
            assert card.takes == cls.takes
        assert card.lines > 20
    assert sorted(one.name for card in cards() for one in card.choices) == options("objective")
    assert [card.name for card in cards() if card.file is None] == ["custom"]


def test_a_sum_takes_what_all_its_terms_take():
    takes = {card.name: card.takes for card in cards() if card.cls == "Sum"}
    assert takes["next_token_crops"] == ("transformer", "encoder", "decoder")
    assert takes["mae_simclr"] == ("vit",)
    assert "resnet" not in about("next_token_crops")


def test_a_recipe_is_listed_with_the_objective_that_it_chooses():
    found = {card.name: recipes(card) for card in cards()}
    assert found["simclr"] == ["cifar10_simclr"]
    assert found["next_token_crops"] == ["text_next_token_crops"]
    assert found["crops"] == ["text_crops"]


def test_the_papers_own_choice_comes_first():
    by_class = {card.cls: [one.name for one in card.choices] for card in cards()}
    assert by_class["SimCLR"] == ["simclr", "simclr_small", "simcse"]
    assert by_class["DINO"][0] == "dino"


def test_a_family_has_a_page_with_each_of_its_objectives():
    page = about("pretext")
    assert "ROTATION  (Rotation, pretext)" in page
    assert "Gidaris" in page
    assert "MOCO" not in page


@pytest.mark.parametrize("word", ["moco", "MoCo", "moco_small"])
def test_an_objective_has_a_page(word):
    page = about(word)
    assert page.startswith("MOCO  (MoCo, contrastive)")
    for part in (
        "L = - mean_i log",
        "objective=moco_small",
        "resnet_micro",
        "experiment=cifar10_moco --help",
    ):
        assert part in page


@pytest.mark.parametrize("word", ["data", "backbones", "protocol"])
def test_a_group_is_listed_alone(word):
    lines = about(word).splitlines()
    group = lines[0].lower()
    assert [line.split()[0] for line in lines[1:]] == options(group)


def test_everything_is_listed_once():
    lines = [line.split()[0] for line in listing().splitlines() if line.startswith("  ")]
    for group in ("objective", "backbone", "experiment"):
        for name in options(group):
            assert lines.count(name) >= 1


def test_a_wrong_word_is_told_what_comes_near(capsys):
    with pytest.raises(SystemExit) as left:
        show(["simclrr"])
    assert str(left.value).startswith(
        "ssl-zoo list: there is no objective, family or group 'simclrr'; did you"
    )
    assert "simclr" in str(left.value)
    show(["--help"])
    assert "ssl-zoo list FAMILY" in capsys.readouterr().out


def test_notes_of_a_yaml_file_go_on_over_lines(tmp_path, monkeypatch):
    (tmp_path / "objective").mkdir()
    text = (
        "# Mine: a headline.\n# When: rows\n# are few.\n# Watch: the std.\n_target_: a.B\nn: 1\n# When: no\n"
    )
    (tmp_path / "objective/mine.yaml").write_text(text)
    monkeypatch.setattr("ssl_zoo.compose.catalogue.config_folder", lambda: tmp_path)
    one = choice("objective", "mine")
    assert (one.headline, one.target) == ("Mine: a headline.", "a.B")
    assert one.notes == {"When": "rows are few.", "Watch": "the std."}


def test_boards_know_which_objectives_read_labels():
    files = {card.cls: card.file.stem for card in cards() if card.file}
    labelled = {files[cls.__name__] for cls in discover() if "y" in cls.reads}
    assert labelled <= set(LABELLED)
