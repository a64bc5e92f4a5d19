"""Networks of torchvision and timm, one or two of each family: counts, recorded outputs and random numbers, beside counts
of our own. `benchmarks/trace_coverage.py` does the same with all of them.
"""

import pytest

from tests.support.library_checks import compare

NAMES = [
    "torchvision:alexnet",
    "torchvision:mobilenet_v2",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:squeezenet1_1",
    "timm:convit_tiny",
    "timm:convnext_atto",
    "timm:crossvit_tiny_240",
    "timm:deit_tiny_distilled_patch16_224",
    "timm:edgenext_xx_small",
    "timm:efficientvit_m0",
    "timm:fastvit_t8",
    "timm:ghostnet_050",
    "timm:gmlp_ti16_224",
    "timm:inception_next_atto",
    "timm:lcnet_035",
    "timm:legacy_seresnet18",
    "timm:levit_128s",
    "timm:mixer_s32_224",
    "timm:mnasnet_small",
    "timm:mobileone_s0",
    "timm:mobilevit_xxs",
    "timm:mobilevitv2_050",
    "timm:pit_ti_224",
    "timm:poolformer_s12",
    "timm:pvt_v2_b0",
    "timm:regnetx_002",
    "timm:repghostnet_050",
    "timm:repvit_m0_9",
    "timm:resmlp_12_224",
    "timm:resnet10t",
    "timm:skresnet18",
    "timm:starnet_s050",
    "timm:swin_s3_tiny_224",
    "timm:test_byobnet",
    "timm:test_efficientnet",
    "timm:test_nfnet",
    "timm:test_vit",
    "timm:test_vit_relpos",
    "timm:tinynet_e",
    "timm:xcit_nano_12_p16_224",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_counted_recorded_and_opened_as_it_computes(name: str) -> None:
    found = compare(name)
    assert found is not None
    assert found.right(), "\n".join(found.faults) or found
