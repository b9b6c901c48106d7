"""Samples that are read and encoded on the way: blocks, batches, and going on where a run stopped."""

import copy
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training import drawn_data
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.data.captioned_data import CaptionedData, SkippedSamples
from versatile_diffusion.data.filters import SampleFilters
from versatile_diffusion.data.problems import BadSample
from versatile_diffusion.data.sample import Row, Sample, read_wanted
from versatile_diffusion.data.tags import VARIANTS, CaptionTags
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop.batch_share import WHOLE, BatchShare
from versatile_diffusion.training.samples import sample_reader
from versatile_diffusion.training.samples.block_reader import BlockReader
from versatile_diffusion.training.samples.encoded_samples import encoded, pairs
from versatile_diffusion.training.samples.sample_block import SampleBlock
from versatile_diffusion.training.samples.sample_cache import SampleCache
from versatile_diffusion.training.samples.sample_encoder import SampleEncoder
from versatile_diffusion.training.samples.sample_reader import SampleReader
from versatile_diffusion.training.samples.sample_source import RowSource, StreamPlace
from versatile_diffusion.training.samples.sample_stream import SampleStream

FLOWS = [Flow(context, output) for context in ("image", "text") for output in ("image", "text")]


@pytest.fixture(scope="module")
def encoder(session_pipe: VersatileDiffusionPipeline) -> SampleEncoder:
    return SampleEncoder(dict(session_pipe.modalities.items()), FLOWS, 2)


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A hundred samples in five tars."""
    return drawn_data.many_tars(tmp_path_factory.mktemp("tars"), 100, 20)


def blocks(
    source: str, encoder: SampleEncoder, share: BatchShare = WHOLE, seed: int = 0, **options: Any
) -> BlockReader:
    skipped = options.pop("skipped", SkippedSamples())
    data = CaptionedData(source, skipped)
    reader = SampleReader(encoder, skipped, validation=options.pop("validation", 0.0))
    return BlockReader(RowSource(data, 0, share), reader, share, **options)


def stream(source: str, encoder: SampleEncoder, share: BatchShare = WHOLE, **options: Any) -> SampleStream:
    told: list[str] = options.pop("told", [])
    return SampleStream(
        blocks(source, encoder, share, **options), SampleCache([], encoder), FLOWS, "as it is", 100, told.append
    )


def keys(block: SampleBlock) -> list[str]:
    return [sample.key for sample in block.samples]


def test_blocks_cover_each_epoch_in_another_order_of_tars(tars: str, encoder: SampleEncoder) -> None:
    reader = blocks(tars, encoder, size=32)
    read = [key for number in range(10) for key in keys(reader.read(number, FLOWS))]
    first, second = read[:100], read[100:200]
    assert set(first) == set(second) and len(set(first)) == 100
    assert first != second and [key[:5] for key in first[:20]] == [first[0][:5]] * 20, "tar after tar"


def test_a_block_is_the_same_wherever_reading_begins(tars: str, encoder: SampleEncoder) -> None:
    reader = blocks(tars, encoder, size=32)
    read = [reader.read(number, FLOWS) for number in range(6)]
    for block in (read[1], read[3], read[5]):
        again = blocks(tars, encoder, size=32)
        again.source.go_to(StreamPlace.of(json.loads(json.dumps(block.start.as_dict()))))
        once_more = again.read(block.number, FLOWS)
        assert keys(once_more) == keys(block)
        assert once_more._batches_of(FLOWS[0], 3) == block._batches_of(FLOWS[0], 3)


def test_a_small_data_set_is_a_block_of_its_own(encoder: SampleEncoder, tmp_path: Path) -> None:
    reader = blocks(drawn_data.folder(tmp_path, 5), encoder, size=32)
    assert [len(reader.read(number, FLOWS).samples) for number in range(3)] == [5, 5, 5]


@pytest.mark.parametrize("processes", [2, 7])
def test_processes_share_an_epoch_out(processes: int, tars: str, encoder: SampleEncoder) -> None:
    read = [
        keys(blocks(tars, encoder, BatchShare(rank, processes), size=100).read(0, FLOWS)) for rank in range(processes)
    ]
    assert sorted(key for own in read for key in own) == sorted(keys(blocks(tars, encoder, size=100).read(0, FLOWS)))


def test_more_processes_than_samples_are_named(encoder: SampleEncoder, tmp_path: Path) -> None:
    source = drawn_data.many_tars(tmp_path, 3)
    with pytest.raises(ValueError, match=r"process 8 of 8: there are more processes than samples. Start fewer"):
        blocks(source, encoder, BatchShare(7, 8)).read(0, FLOWS)


def mixed(place: Path) -> str:
    """Pictures of two shapes, some without captions, and captions without pictures."""
    for index in range(40):
        drawn_data.picture(index, (48, 24) if index % 4 == 0 else (24, 24)).save(place / f"{index:02d}.png")
        if index % 3:
            (place / f"{index:02d}.txt").write_text(drawn_data.captions(index)[0])
    (place / "alone.txt").write_text("a red tent")
    return str(place)


def test_batches_are_of_one_bucket_and_teach_their_flow(encoder: SampleEncoder, tmp_path: Path) -> None:
    block = blocks(mixed(tmp_path), encoder).read(0, FLOWS)
    for flow in FLOWS:
        for rows in block._batches_of(flow, 4):
            assert len({encoder.bucket(block.samples[row]) for row in rows}) == 1
            assert all(block.samples[row].teaches(flow) for row in rows)
    assert block.steps(4) == max(len(block._batches_of(flow, 4)) for flow in FLOWS)


def test_all_samples_are_taken_equally_often(encoder: SampleEncoder, tmp_path: Path) -> None:
    block = blocks(mixed(tmp_path), encoder).read(0, FLOWS)
    taken: Counter[str] = Counter()
    for seed in range(100):
        block = replace(block, seed=seed)
        taken.update(block.samples[row].key for rows in block._batches_of(FLOWS[0], 4) for row in rows)
    assert len(taken) == 40 and min(taken.values()) > 60 and max(taken.values()) < 140


def test_a_batch_is_encoded_once_for_all_flows(
    tars: str, encoder: SampleEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = SampleEncoder.encode
    monkeypatch.setattr(SampleEncoder, "encode", lambda self, rows: (encoded.append(len(rows)), encode(self, rows))[1])
    data = stream(tars, encoder)
    for _ in range(3):
        for flow in FLOWS:
            data.draw(flow, 4, torch.Generator().manual_seed(0))
    assert encoded == [4, 4, 4]


def drawn(data: SampleStream, steps: range, count: int = 8, share: BatchShare = WHOLE) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for step in steps:
        for flow in FLOWS:
            found += data.draw(flow, count, torch.Generator().manual_seed(step), share)
    return found


def test_a_stream_goes_on_where_it_was(tars: str, encoder: SampleEncoder) -> None:
    whole = stream(tars, encoder, size=32)
    before = drawn(whole, range(6))
    remembered = json.loads(json.dumps([whole.memory()]))
    after = drawn(whole, range(6, 20))
    again = stream(tars, encoder, size=32)
    again.remember(remembered)
    assert all(torch.equal(*both) for both in zip(after, drawn(again, range(6, 20)), strict=True))
    assert json.dumps(again.memory()) == json.dumps(whole.memory()) and len(before) == 6 * 4 * 2


def test_with_other_processes_or_after_a_cache_a_fresh_epoch_begins(tars: str, encoder: SampleEncoder) -> None:
    first = stream(tars, encoder)
    drawn(first, range(2))
    told: list[str] = []
    stream(tars, encoder, told=told).remember([None])
    assert told.pop() == "The samples begin at a fresh epoch (1), since they were encoded first before."
    share = BatchShare(0, 2)
    second = stream(tars, encoder, share, told=told)
    second.remember([first.memory()])
    drawn(second, range(2), share=share)
    assert second.reader.source.place.epoch >= 1
    assert told == ["The samples begin at a fresh epoch (2), since there are other processes than before."]


def test_a_process_loads_only_its_own_samples(tars: str, encoder: SampleEncoder) -> None:
    share = BatchShare(1, 2)
    latents, tokens = stream(tars, encoder, share).draw(FLOWS[0], 8, torch.Generator().manual_seed(0), share)
    assert len(latents) == len(tokens) == 4


def test_flows_that_the_data_does_not_teach_are_named(encoder: SampleEncoder, tmp_path: Path) -> None:
    drawn_data.picture(0).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="teaches image-variation, but not image-to-text, text-to-image"):
        blocks(str(tmp_path), encoder).read(0, FLOWS)
    assert blocks(str(tmp_path), encoder).read(0, []).flows == [Flow("image", "image")]


def test_a_block_is_read_on_for_a_flow_that_it_does_not_teach(encoder: SampleEncoder, tmp_path: Path) -> None:
    for index in range(70):
        drawn_data.picture(index, (24, 24)).save(tmp_path / f"{index:03d}.png")
    (tmp_path / "069.txt").write_text("a red tent")
    block = blocks(str(tmp_path), encoder, size=8).read(0, FLOWS)
    assert [sample.key for sample in block.samples if sample.teaches(FLOWS[1])] == ["069"]
    assert len(block.samples) <= 34, "what teaches nothing that is missing is passed over"


@pytest.fixture
def read_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of samples that were decoded."""
    names: list[str] = []

    def counted(row: Row, *arguments: Any) -> Any:
        names.append(row.key)
        return read_wanted(row, *arguments)

    monkeypatch.setattr(sample_reader, "read_wanted", counted)
    yield names


def test_two_thousand_samples_are_not_read_before_the_first_step_nor_again_after_a_stop(
    encoder: SampleEncoder, tmp_path: Path, read_rows: list[str]
) -> None:
    source = drawn_data.many_tars(tmp_path, 2000, 250)
    data = stream(source, encoder)
    drawn(data, range(1), 32)
    read_on(data)
    assert len(read_rows) == 2 * 256, "a block, and the one after it"
    drawn(data, range(1, 12), 32)
    read_on(data)
    learnt, remembered = set(read_rows[:-512]), [data.memory()]
    read_rows.clear()
    again = stream(source, encoder)
    again.remember(remembered)
    read_on(again)
    assert len(read_rows) == 2 * 256 and not learnt.intersection(read_rows)


def read_on(data: SampleStream) -> None:
    """Waits for the block that is read meanwhile."""
    assert data._next is not None
    data._next.result()


def test_similarity_is_measured_where_the_data_says_none(encoder: SampleEncoder, tmp_path: Path) -> None:
    source = Path(drawn_data.folder(tmp_path, 4))
    drawn_data.picture(0).save(source / "alone.png")
    data = CaptionedData(str(source))
    sample = next(each for each in data.samples(encoder.modalities) if len(each.items) == 2)
    image, text = (encoder.modalities[name].shared_vectors(sample.items[name]) for name in ("image", "text"))
    assert image is not None and text is not None
    assert torch.allclose(image.norm(dim=1), torch.ones(1)) and torch.allclose(text.norm(dim=1), torch.ones(len(text)))
    assert sample_reader.similarity(sample, encoder) == pytest.approx(float((image @ text.T).max()))
    reader = SampleReader(encoder, data.skipped, SampleFilters(min_similarity=1.0))
    assert [each.key for each in reader.samples(data.rows())] == ["alone"], "nothing is known of it"
    assert data.skipped.filtered == {"min_similarity": 4}


@pytest.mark.parametrize(("dtype", "near"), [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_encoders_in_half_the_memory_say_nearly_the_same(
    dtype: torch.dtype, near: float, bundled: VersatileDiffusionPipeline
) -> None:
    modalities = {name: copy.deepcopy(each) for name, each in bundled.modalities.items()}
    flows = [Flow("text", "image"), Flow("image", "text")]
    held = SampleEncoder(modalities, flows, 4)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    samples = [
        held.fit(Sample(str(i), {"image": (image,), "text": ("a red tent in the meadow",)}))
        for i, image in enumerate(images)
    ]
    before, nothing = held.encode(samples), held.unconditional(flows[0])
    size = sum(each.nbytes for modality in modalities.values() for each in modality.parameters())
    held.hold_in(dtype)
    assert sum(each.nbytes for modality in modalities.values() for each in modality.parameters()) == size / 2
    after = held.encode(samples)
    for name in (each for each in before if not each.endswith("rows")):
        error = (after[name].float() - before[name].float()).norm() / before[name].float().norm()
        assert 0 < error < near, name
    assert not torch.equal(held.unconditional(flows[0]), nothing), "it is that of the encoders as they are now"


def test_tags_are_varied_for_contexts_and_not_where_something_is_measured(
    session_pipe: VersatileDiffusionPipeline, tmp_path: Path
) -> None:
    caption = "red, tent, sea, house"
    drawn_data.picture(0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(f"{caption}\n{caption}, green")
    modalities = dict(session_pipe.modalities.items())
    encoder = SampleEncoder(modalities, FLOWS, 2, tags=CaptionTags(shuffled=True, kept=1))
    (row,) = CaptionedData(str(tmp_path)).rows()
    read = {share: SampleReader(encoder, SkippedSamples(), validation=share).read(row) for share in (0.0, 1.0)}
    learnt, measured = (sample for sample in read.values() if not isinstance(sample, BadSample))
    assert learnt.shown["text"] == measured.shown["text"] == measured.seen["text"] == (caption, f"{caption}, green")
    assert len(learnt.seen["text"]) == 2 * VARIANTS and len(set(learnt.seen["text"])) > 2
    assert all(str(way).startswith("red, ") for way in learnt.seen["text"])
    drawn = {
        float(pairs(FLOWS[3], [(encoded(encoder, [learnt]), 0)], torch.tensor([[0.0, at / 50]]))[1].sum())
        for at in range(50)
    }
    ways = encoder.modalities["text"].embed(list(learnt.seen["text"][VARIANTS:]))
    assert drawn == {float(each.half().float().sum()) for each in ways}, "of the other caption, in all its ways"
