"""The keyword options of the commands are those that their parts take."""

import inspect
from typing import get_type_hints

from convoscope import data
from convoscope.training import Recipe, relearn
from convoscope.training.commands.keywords import ReadingKeywords, RecipeKeywords, TransferChoices, TransferKeywords


def test_the_recipes_keywords_are_its_fields() -> None:
    fields = {name: field.annotation for name, field in Recipe.model_fields.items()}
    assert get_type_hints(RecipeKeywords) == fields


def test_reading_keywords_are_those_of_loading_and_preparing() -> None:
    taken = {*inspect.signature(data.load).parameters, *inspect.signature(data.prepare).parameters}
    taken |= set(data.SourceKeywords.__annotations__)
    assert set(ReadingKeywords.__annotations__) <= taken


def test_no_keyword_means_two_things() -> None:
    parts = (ReadingKeywords, RecipeKeywords, TransferChoices)
    names = [name for part in parts for name in part.__annotations__]
    assert sorted(names) == sorted(TransferKeywords.__annotations__)
    assert len(set(names)) == len(names)
    assert not set(inspect.signature(relearn).parameters) & set(names)
