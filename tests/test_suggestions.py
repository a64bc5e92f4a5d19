"""What a misspelt name is likely to mean."""

from convoscope.suggestions import did_you_mean, nearest_names, the_nearest


def test_the_most_similar_name_comes_first_whatever_its_case() -> None:
    assert nearest_names("CONV22", ["conv1", "conv2", "Conv2D"], most=2) == ["conv2", "Conv2D"]
    assert nearest_names("zzz", ["conv1"], most=5) == []


def test_the_hints_are_whole_sentences_or_nothing() -> None:
    assert did_you_mean("rleu", ["conv", "relu"]) == "did you mean relu?"
    assert did_you_mean("resnet19", ["resnet18"], prefix="timm:") == "did you mean timm:resnet18?"
    assert the_nearest("conv", ["conv1", "conv2", "dense1"]) == "the nearest: conv2, conv1"
    assert did_you_mean("zzz", ["conv"]) == the_nearest("zzz", ["conv"]) == ""


def test_a_very_long_word_is_compared_by_its_beginning() -> None:
    assert did_you_mean("x" * 1_000_000, ["conv"]) == ""
