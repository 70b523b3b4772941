"""The output layers of torchvision's, timm's and Transformers' models: a table, checked on the meta device."""

import itertools
import re
import warnings

import pytest
import torch
import torchvision
from torch import nn

from comhe.regularizers.selection import select


def outputs(model):
    """Their names; a warning of ours is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the output layer")
        return [layer.name for layer in select(model).layers if layer.role == "output"]


# By the beginning of the name; of several that fit, the longest one counts.
TORCHVISION = {
    "alexnet": "classifier.6",
    "convnext": "classifier.2",
    "deeplabv3": "classifier.4",
    "densenet": "classifier",
    "efficientnet": "classifier.1",
    "fasterrcnn": "roi_heads.box_predictor.cls_score",
    "fcn": "classifier.4",
    "fcos": "head.classification_head.cls_logits",
    "googlenet": "fc",
    "inception": "fc",
    "keypointrcnn": "roi_heads.box_predictor.cls_score",
    "lraspp": ["classifier.low_classifier", "classifier.high_classifier"],  # whose sum are the logits
    "maskrcnn": "roi_heads.box_predictor.cls_score",
    "maxvit": "classifier.5",
    "mc3": "fc",
    "mnasnet": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3": "classifier.3",
    "mvit": "head.1",
    "r2plus1d": "fc",
    "r3d": "fc",
    "resnet": "fc",
    "resnext": "fc",
    "retinanet": "head.classification_head.cls_logits",
    "s3d": "classifier.1",
    "shufflenet": "fc",
    "squeezenet": "classifier.1",
    "ssd300": [f"head.classification_head.module_list.{scale}" for scale in range(6)],
    "ssdlite": [f"head.classification_head.module_list.{scale}.1" for scale in range(6)],
    "swin": "head",
    "vgg": "classifier.6",
    "vit": "heads.head",
    "wide_resnet": "fc",
}
LEFT_OUT = re.compile("quantized|raft|regnet")  # optical flow has no classifier; the meta device cannot build RegNets
NAMES = [name for name in torchvision.models.list_models() if not LEFT_OUT.search(name)]
# A few sizes of each family: the others differ in widths and depths alone.
ALIKE = "_large|_small|_v2|320_fpn|x1_.|x2_0|0_75|1_3|_b|_b[1-7]|_l|_m|152|161|169|201|101|_32|_h_14|_bn"
NAMES = [name for name in NAMES if not re.search(f"({ALIKE})$", name)]


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", NAMES)
def test_torchvision(name):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if re.match("fcn|deeplab|lraspp|.*rcnn|retinanet|fcos|ssd", name):
        options["weights_backbone"] = None
    if re.match("(fcn|deeplab)", name):
        options["aux_loss"] = True
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **options)
    expected = TORCHVISION[max((key for key in TORCHVISION if name.startswith(key)), key=len)]
    assert outputs(model) == ([expected] if isinstance(expected, str) else expected)


@pytest.mark.usefixtures("without_values")
def test_torchvision_regnet():
    assert outputs(torchvision.models.regnet_y_400mf()) == ["fc"]


TIMM = {
    "aimv2_large_patch14_224": [],  # a feature extractor
    "bat_resnext26ts": ["head.fc"],
    "caformer_s18": ["head.fc.fc2"],
    "cait_xxs24_224": ["head"],
    "coat_tiny": ["head"],
    "coatnet_0_224": ["head.fc"],
    "convit_tiny": ["head"],
    "convnext_atto": ["head.fc"],
    "crossvit_tiny_240": ["head.0", "head.1"],
    "darknet53": ["head.fc"],
    "deit_tiny_distilled_patch16_224": ["head", "head_dist"],
    "densenet121": ["classifier"],
    "dla34": ["fc"],
    "dpn48b": ["classifier"],
    "edgenext_xx_small": ["head.fc"],
    "efficientformer_l1": ["head", "head_dist"],
    "efficientnet_b0": ["classifier"],
    "efficientvit_b0": ["head.classifier.4"],
    "efficientvit_m0": ["head.linear"],
    "ghostnet_050": ["classifier"],
    "hgnet_tiny": ["head.fc"],
    "hrnet_w18_small": ["classifier"],
    "inception_v4": ["last_linear"],
    "levit_128s": ["head.linear", "head_dist.linear"],
    "mixer_s32_224": ["head"],
    "mobilenetv3_small_050": ["classifier"],
    "mobilevit_xxs": ["head.fc"],
    "mvitv2_tiny": ["head.fc"],
    "pit_ti_distilled_224": ["head", "head_dist"],
    "pvt_v2_b0": ["head"],
    "regnetx_002": ["head.fc"],
    "repvit_m0_9": ["head.head.l", "head.head_dist.l"],
    "resnet18": ["fc"],
    "resnetv2_50": ["head.fc"],
    "rexnet_100": ["head.fc"],
    "selecsls42": ["fc"],
    "swin_tiny_patch4_window7_224": ["head.fc"],
    "tiny_vit_5m_224": ["head.fc"],
    "vgg11": ["head.fc"],
    "vit_tiny_patch16_224": ["head"],
    "volo_d1_224": ["head"],  # not its aux_head
    "xcit_nano_12_p8_224": ["head"],
}


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        assert outputs(timm.create_model(name)) == TIMM[name]


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "levit_128s"])
def test_a_feature_extractor_of_timm_has_no_output_layer(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
        assert outputs(model) == []
        assert outputs(nn.Sequential(model, nn.Linear(model.num_features, 10))) == ["1"]


TRANSFORMERS = {
    "AlbertForMaskedLM": ["predictions.decoder"],
    "BartForConditionalGeneration": ["lm_head"],
    "BartForSequenceClassification": ["classification_head.out_proj"],
    "BertForMaskedLM": ["cls.predictions.decoder"],
    "BertForMultipleChoice": [],  # one neuron
    "BertForNextSentencePrediction": ["cls.seq_relationship"],
    "BertForPreTraining": ["cls.predictions.decoder"],
    "BertForQuestionAnswering": ["qa_outputs"],
    "BertForSequenceClassification": ["classifier"],
    "BertForTokenClassification": ["classifier"],
    "BertModel": [],
    "BloomForSequenceClassification": ["score"],
    "DebertaForSequenceClassification": ["classifier"],
    "DetrForObjectDetection": ["class_labels_classifier"],
    "DistilBertForMaskedLM": ["vocab_projector"],
    "DistilBertForSequenceClassification": ["classifier"],
    "ElectraForMaskedLM": ["generator_lm_head"],
    "GPT2ForSequenceClassification": ["score"],
    "GPT2LMHeadModel": ["lm_head"],
    "LlamaForCausalLM": ["lm_head"],
    "MixtralForCausalLM": ["lm_head"],
    "ResNetForImageClassification": ["classifier.1"],
    "RobertaForMaskedLM": ["lm_head.decoder"],
    "RobertaForSequenceClassification": ["classifier.out_proj"],
    "SegformerForSemanticSegmentation": ["decode_head.classifier"],
    "SegformerModel": [],
    "SwinForImageClassification": ["classifier"],
    "T5ForConditionalGeneration": ["lm_head"],
    "ViTForImageClassification": ["classifier"],
    "Wav2Vec2ForCTC": ["lm_head"],
    "XLMForSequenceClassification": ["sequence_summary.summary"],
    "XLNetForSequenceClassification": ["logits_proj"],
    "XLNetLMHeadModel": ["lm_loss"],
}


def configured(name):
    transformers = pytest.importorskip("transformers")
    cls = getattr(transformers, name)
    config = cls.config_class()
    for key in (
        "num_hidden_layers",
        "num_layers",
        "n_layer",
        "n_layers",
        "encoder_layers",
        "decoder_layers",
        "vocab_size",
    ):
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, 99 if key == "vocab_size" else 1)
    with torch.device("meta"):
        return cls(config)


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    assert outputs(configured(name)) == TRANSFORMERS[name]


@pytest.mark.parametrize(
    ("own", "found", "is_told"),
    [
        ({"fc": (4, 9), "final": (9, 3)}, ["final"], False),
        ({"clf": (4, 3), "attention": (4, 8, 4)}, ["clf"], False),
        ({"intent": (4, 3), "slot": (4, 7)}, ["slot"], True),
    ],
)
def test_layers_of_ones_own_after_a_transformer(own, found, is_told):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}

    class Own(transformers.BertPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.bert = transformers.BertModel(config)
            for name, widths in own.items():
                self.add_module(name, nn.Sequential(*itertools.starmap(nn.Linear, itertools.pairwise(widths))))

    with torch.device("meta"):
        model = Own(transformers.BertConfig(**sizes, vocab_size=9))
    if is_told:
        with pytest.warns(UserWarning, match=r"may be any of intent\.0, slot\.0"):
            names = [layer.name for layer in select(model).layers if layer.role == "output"]
    else:
        names = outputs(model)
    assert [name.partition(".")[0] for name in names] == found


def test_adapted_models():
    peft = pytest.importorskip("peft")
    model = configured("GPT2ForSequenceClassification")
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS"))
    (name,) = outputs(adapted)
    assert name == "base_model.model.score.modules_to_save.default"
    with torch.device("meta"):
        adapted.add_adapter("b", peft.LoraConfig(task_type="SEQ_CLS"))
    assert outputs(adapted) == [name]
    adapted.set_adapter("b")
    assert outputs(adapted) == [name.replace("default", "b")]


def test_an_adaptive_softmax_is_the_output_of_all_its_clusters():
    softmax = nn.AdaptiveLogSoftmaxWithLoss(32, 1000, [50, 200])
    expected = ["head", "tail.0.1", "tail.1.1"]
    assert outputs(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), softmax)) == [f"2.{name}" for name in expected]
    assert outputs(softmax) == expected
    assert outputs(nn.ModuleDict({"body": nn.Linear(16, 32), "lm": softmax, "classifier": nn.Linear(32, 5)})) == [
        "classifier"
    ]
