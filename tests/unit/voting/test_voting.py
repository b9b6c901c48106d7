"""`vd vote`: settings, studies, blind order, votes and what they say."""

import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import CAPTIONS
from tests.unit.cli.test_brain_decoding import killed
from tests.unit.cli.test_cli import empty_folder, vd  # noqa: F401
from tests.unit.serving.running import listening
from versatile_diffusion.provenance import png
from versatile_diffusion.voting.page import build, serve
from versatile_diffusion.voting.report import VoteReport, VoteShare, agreement
from versatile_diffusion.voting.settings import StudySide, require_unlike
from versatile_diffusion.voting.study import CHOICES, ImagePair, Study, arranged

PLAIN = {"num_inference_steps": 50, "guidance_interval": None, "scheduler": None}
FAST = {"preset": "fast"}


def pairs_of(count: int) -> list[ImagePair]:
    return [
        ImagePair(line, 0, f"prompt {line}", None, f"pictures/{line}-a.png", f"pictures/{line}-b.png")
        for line in range(1, count + 1)
    ]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """Six pairs of a red picture from A and a blue one from B."""
    opened = Study(tmp_path / "study", must_exist=False)
    opened.plan(("slow", "fast"), pairs_of(6))
    (tmp_path / "study/pictures").mkdir()
    for pair in pairs_of(6):
        for name, color in ((pair.a, (200, pair.line, 0)), (pair.b, (0, pair.line, 200))):
            content = png(Image.new("RGB", (8, 8), color), {"model": f"the model of {name}"})
            (opened.folder / name).write_bytes(content)
    yield opened
    opened.close()


# ---- settings ----


@pytest.mark.parametrize(
    ("text", "name", "model", "options"),
    [
        ("postcards", "postcards", "postcards", PLAIN),
        ("postcards:preset=fast", "postcards:preset=fast", "postcards", FAST),
        ("old=some/folder", "old", "some/folder", PLAIN),
        (
            "x=C:/models/a:steps=10,guidance=5,interval=0.2-0.8",
            "x",
            "C:/models/a",
            {**PLAIN, "num_inference_steps": 10, "guidance_scale": 5.0, "guidance_interval": (0.2, 0.8)},
        ),
        ("a/b:preset=fast,scheduler=unipc", "a/b:preset=fast,scheduler=unipc", "a/b", {**FAST, "scheduler": "unipc"}),
    ],
)
def test_sides_are_spelt_in_one_line(text: str, name: str, model: str, options: dict[str, object]) -> None:
    assert StudySide.parse(text) == StudySide(name, model, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:speed=3", "there is no speed"),
        ("a:steps=many", "steps must be a number"),
        ("a:steps=0", "between 1 and 1000"),
        ("a:preset=best", "quality or fast"),
        ("a:interval=0.2", "interval must be a number"),
        ("a:scheduler=magic", "magic"),
        ("", "is no"),
    ],
)
def test_what_is_no_side_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudySide.parse(text)


def test_two_sides_that_are_the_same_are_not_compared() -> None:
    with pytest.raises(ValueError, match="differ"):
        require_unlike(StudySide.parse("a=postcards"), StudySide.parse("b=postcards:steps=50"))


# ---- order, votes ----


@given(count=st.integers(0, 40), voter=st.text(max_size=5), other=st.text(max_size=5))
def test_each_voter_sees_every_pair_once_and_a_on_the_left_in_half(count: int, voter: str, other: str) -> None:
    shown = arranged(pairs_of(count), voter)
    assert sorted(one.pair.line for one in shown) == list(range(1, count + 1))
    left = sum(one.a_left for one in shown)
    assert abs(2 * left - count) <= 1
    assert shown == arranged(pairs_of(count), voter)
    if count > 20 and voter != other:
        assert shown != arranged(pairs_of(count), other)


def test_order_and_sides_tell_nothing_over_many_voters() -> None:
    first, left = Counter[int](), Counter[int]()
    for voter in range(600):
        shown = arranged(pairs_of(3), str(voter))
        first[shown[0].pair.line] += 1
        left[shown[0].pair.line] += shown[0].a_left
    assert all(150 < first[line] < 250 for line in (1, 2, 3))
    assert all(0.35 < left[line] / first[line] < 0.65 for line in (1, 2, 3))


def test_a_vote_counts_once_and_can_be_taken_back(study: Study) -> None:
    first, second, *_ = study.order("anna")
    assert study.vote("anna", first, first.choice("left"))
    assert not study.vote("anna", first, "same")
    assert study.vote("ben", first, "same") and study.vote("anna", second, "same")
    assert [(vote["pair"], vote["choice"]) for vote in study.votes("anna")] == [
        (first.pair.key, "a" if first.a_left else "b"),
        (second.pair.key, "same"),
    ]
    again = Study(study.folder)
    assert len(again.votes()) == 3  # on disk at once
    assert again.undo("anna") and [vote["pair"] for vote in study.votes("anna")] == [first.pair.key]
    assert again.undo("anna") and not again.undo("anna")
    assert [vote["voter"] for vote in study.votes()] == ["ben"]
    assert [one.pair for one in again.order("anna")] == [one.pair for one in study.order("anna")]
    again.close()


def test_a_pair_without_a_picture_is_not_shown(study: Study) -> None:
    (study.folder / study.pairs[0].a).unlink()
    assert [pair.line for pair in study.pairs] == [2, 3, 4, 5, 6]


# ---- the page ----


def test_the_page_is_blind_and_stores_what_was_meant(study: Study) -> None:
    with listening(build(study)) as address, httpx.Client(base_url=address) as browser:
        sent = [browser.get("/?voter=anna", follow_redirects=True), browser.get("/page.css"), browser.get("/page.js")]
        seen: set[str] = set()
        meant: dict[str, str] = {}
        choices = ["left", "right", "same"] * 2
        state = browser.get("/state")
        for choice in choices:
            sent.append(state)
            pair = state.json()["pair"]
            pictures = {side: browser.get(f"/pictures/{pair[side]}") for side in ("left", "right")}
            sent += pictures.values()
            colors = {side: np.asarray(Image.open(io.BytesIO(got.content)))[0, 0] for side, got in pictures.items()}
            assert all(Image.open(io.BytesIO(got.content)).info == {} for got in pictures.values())
            seen |= {pair["left"], pair["right"], pair["ticket"]}
            a_side = "left" if colors["left"][0] else "right"
            meant[f"{colors['left'][1]}-0"] = "same" if choice == "same" else "a" if choice == a_side else "b"
            state = browser.post("/vote", json={"pair": pair["ticket"], "choice": choice})
        assert state.json() == {"done": 6, "total": 6, "pair": None}
        assert len(seen) == 18
        assert {vote["pair"]: vote["choice"] for vote in study.votes("anna")} == meant
        told = b"".join(response.content + str(response.headers).encode() for response in sent)
        for secret in (b"slow", b"fast", b"model", b"-a.png", b"study"):
            assert secret not in told


@pytest.mark.parametrize("number", range(6))  # one in two would pass by chance
def test_a_vote_is_on_the_sides_that_were_shown_even_if_pairs_came_since(study: Study, number: int) -> None:
    with listening(build(study)) as address, httpx.Client(base_url=address) as browser:
        browser.get(f"/?voter={number}", follow_redirects=True)
        for pair in study.pairs[1:]:
            (study.folder / pair.b).rename(study.folder / f"{pair.line}.later")
        pair = browser.get("/state").json()["pair"]
        content = browser.get(f"/pictures/{pair['left']}").content
        for later in study.folder.glob("*.later"):
            later.rename(study.folder / f"pictures/{later.stem}-b.png")
        browser.post("/vote", json={"pair": pair["ticket"], "choice": "left"})
        [vote] = study.votes(str(number))
        a_left = bool(np.asarray(Image.open(io.BytesIO(content)))[0, 0, 0])
        assert (vote["pair"], vote["choice"], vote["a_left"]) == ("1-0", "a" if a_left else "b", int(a_left))


def test_voters_have_their_own_progress_and_tickets(study: Study) -> None:
    with listening(build(study)) as address:
        with httpx.Client(base_url=address) as anna, httpx.Client(base_url=address) as ben:
            assert anna.get("/state").status_code == 401
            for browser in (anna, ben):
                browser.get("/")
            pair = anna.get("/state").json()["pair"]
            assert anna.post("/vote", json={"pair": pair["ticket"], "choice": "same"}).json()["done"] == 1
            assert anna.post("/vote", json={"pair": pair["ticket"], "choice": "left"}).json()["done"] == 1  # not twice
            assert ben.get("/state").json()["done"] == 0
            assert ben.post("/vote", json={"pair": pair["ticket"], "choice": "left"}).status_code == 404
            assert ben.get(f"/pictures/{pair['left']}").status_code == 404
            assert anna.post("/undo").json()["done"] == 0
            assert anna.get("/state").json()["pair"] == pair
        with httpx.Client(base_url=address) as other:
            assert other.get("/", headers={"Host": "evil.example"}).status_code == 400
            assert other.get("/?voter=../x").status_code == 422
            assert other.get("/page.html").status_code == 422


def test_the_port_that_was_found_is_told(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[int] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: ports.append(sockets[0].getsockname()[1]))
    serve(study, 0, ports.append)
    told, listened = ports
    assert told == listened > 0


# ---- reports ----


@given(total=st.integers(1, 200), data=st.data())
def test_wilson_intervals_hold_the_share_and_narrow_with_votes(total: int, data: st.DataObject) -> None:
    votes = data.draw(st.integers(0, total))
    share, wider = VoteShare.of(votes, total), VoteShare.of(4 * votes, 4 * total)
    assert 0 <= share.low <= share.share + 1e-9 and share.share - 1e-9 <= share.high <= 1
    assert wider.high - wider.low < share.high - share.low
    z = 1.959963984540054
    middle = (share.share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (share.share * (1 - share.share) / total + z * z / (4 * total**2)) ** 0.5
    assert (share.low, share.high) == pytest.approx((max(middle - half, 0), min(middle + half, 1)), abs=1e-9)
    mirrored = VoteShare.of(total - votes, total)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - share.high, 1 - share.low))


def test_agreement_is_that_of_fleiss() -> None:
    assert agreement([]) == (None, None)
    assert agreement([Counter(a=1), Counter(b=1)]) == (None, None)
    assert agreement([Counter(a=2), Counter(a=3)]) == (1, None)
    assert agreement([Counter(a=2), Counter(b=2)]) == (1, 1)
    assert agreement([Counter(a=1, b=1), Counter(a=1, b=1)]) == (0, -1)


def test_the_report_counts_sides_not_places(study: Study, tmp_path: Path) -> None:
    for voter in ("anna", "ben"):
        for shown in study.order(voter):
            study.vote(voter, shown, CHOICES[min(shown.pair.line // 3, 2)])
    report = VoteReport.of(study)
    assert {choice: share.votes for choice, share in report.shares.items()} == {"a": 4, "same": 6, "b": 2}
    assert (report.voters, report.pairs, report.agreement, report.kappa) == (2, 6, 1, 1)

    plot = tmp_path / "votes.png"
    (told,) = json.loads(vd("vote", "report", study.folder, "--json", "--plot", plot).stdout)
    assert told["a"]["name"] == "slow" and told["a"]["share"] == pytest.approx(1 / 3)
    assert Image.open(plot).width > 1000
    assert "slow" in vd("vote", "report", study.folder).stdout


def test_there_must_be_a_study(tmp_path: Path) -> None:
    for command in ("open", "report"):
        result = vd("vote", command, tmp_path / "none")
        assert result.exit_code == 1 and "There is no study in" in result.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("command", ["make a b --prompts list.txt", "open study", "report study"])
def test_what_voting_needs_is_named(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list.txt").write_text("a tent")
    monkeypatch.setitem(sys.modules, "versatile_diffusion.voting.study", None)  # as if it could not be imported
    result = vd("vote", *command.split())
    assert result.exit_code == 1 and "pip install 'versatile-diffusion[app]'" in result.stderr


def test_a_damaged_study_is_named(study: Study) -> None:
    study.close()
    file = study.folder / "study.db"
    file.write_bytes(b"no table" * 200)
    for command in ("open", "report"):
        result = vd("vote", command, study.folder)
        assert result.exit_code == 1 and result.stderr.startswith(f"Error: Cannot use {file}: ")


# ---- making ----


def arguments_of(model: Path) -> list[str]:
    sides = [f"one={model}:steps=2", f"two={model}:steps=1,guidance=2"]
    return ["vote", "make", *sides, "--prompts", "list.jsonl", "--device", "cpu", "--dtype", "fp32"]


def make(model: Path, *more: object) -> str:
    result = vd(*arguments_of(model), *more)
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.fixture
def prompts(empty_folder: Path, picture: Image.Image) -> None:  # noqa: F811
    picture.save("seen.png")
    entries = [{"text": CAPTIONS[0]}, {"image": "seen.png"}, {"text": CAPTIONS[1]}]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, entries)))


@pytest.mark.usefixtures("prompts")
def test_pairs_are_made_once_and_hold_their_recipes(model: Path) -> None:
    assert "6 pictures made, 3 pairs are ready" in make(model)
    files = sorted(Path("study/pictures").iterdir())
    before = {file: file.read_bytes() for file in files}
    assert "The same picture, pixel for pixel." in vd("replay", files[1], "--model", model).stderr
    files[0].unlink()
    files[3].unlink()
    assert "2 pictures made" in make(model)
    assert {file: file.read_bytes() for file in files} == before
    assert "6 pictures made, 6 pairs" in make(model, "--num", 2)
    study = Study(Path("study"))
    assert [(pair.prompt, pair.given) for pair in study.pairs[2:4]] == [(None, "given/line-0002.png")] * 2
    study.close()


@pytest.mark.slow
@pytest.mark.usefixtures("prompts")
def test_a_run_that_was_killed_goes_on(model: Path) -> None:
    killed(5, *arguments_of(model))  # settings, the given picture, three pictures
    written = {file: file.stat().st_mtime_ns for file in Path("study/pictures").glob("line-*")}
    assert len(written) == 3
    assert "3 pictures made, 3 pairs" in make(model)
    assert written.items() <= {file: file.stat().st_mtime_ns for file in Path("study/pictures").glob("line-*")}.items()


@pytest.mark.usefixtures("prompts")
def test_a_study_of_other_sides_is_another_folder(model: Path) -> None:
    make(model)
    result = vd("vote", "make", "postcards", "postcards:preset=fast", "--prompts", "list.jsonl")
    assert result.exit_code == 1 and "Choose another --output" in result.stderr
