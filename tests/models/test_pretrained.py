"""What the libraries say of their weights."""

import pytest

from convoscope.errors import UsageError
from convoscope.models import pretrained


def test_what_the_libraries_say_of_their_weights() -> None:
    offer = pretrained("torchvision:resnet18")
    assert offer.address.startswith("https://") and offer.address.endswith(".pth")
    assert offer.sha256 in offer.address and len(offer.sha256) == 8
    assert (offer.input, offer.outputs) == ((224, 224, 3), 1000)
    offer = pretrained("timm:resnet18")
    assert offer.address.endswith(".safetensors") and offer.sha256 == ""
    assert len(offer.mean) == len(offer.std) == 3


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        pretrained("timm:efficientnet_b8")
    assert caught.value.code == "backbone-without-weights"
    with pytest.raises(UsageError) as caught:
        pretrained("timm:resnet18x")
    assert caught.value.code == "model-unknown"


def test_how_images_are_prepared_is_known_without_weights() -> None:
    offer = pretrained("timm:efficientnet_b8", offered=False)
    assert offer.address == "" and offer.input == (672, 672, 3)
    assert (offer.mean, offer.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_name_with_the_tag_of_its_weights() -> None:
    offer = pretrained("timm:resnet18.fb_swsl_ig1b_ft_in1k")
    assert "resnet18.fb_swsl_ig1b_ft_in1k" in offer.address
    with pytest.raises(UsageError) as caught:
        pretrained("timm:resnet18.fb_swsl")
    assert caught.value.code == "model-unknown" and "timm:resnet18.fb_swsl_ig1b_ft_in1k" in caught.value.hint
