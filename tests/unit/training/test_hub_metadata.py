"""What the hub reads of our cards."""

from huggingface_hub import ModelCardData

from versatile_diffusion.flows import Flow
from versatile_diffusion.training.report.hub_metadata import hub_metadata


def told(*flows: str, **options: object) -> dict[str, object]:
    metadata = hub_metadata([Flow.parse(flow) for flow in flows], **options)  # pyright: ignore[reportArgumentType]
    return ModelCardData(**metadata).to_dict()


def test_the_hub_finds_its_task_and_its_examples() -> None:
    assert told("text-variation", "image-to-text", "text-to-image", prompts=["a tent"]) == {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "widget": [{"text": "a tent"}],
    }
    assert told("image-variation")["pipeline_tag"] == "image-to-image"
    assert told("text-to-sound", lora=True) == {"library_name": "versatile-diffusion"}
