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
