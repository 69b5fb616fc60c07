"""A reward model on a server: what is sent, how answers become probabilities, and what the user is told if there is none."""

import asyncio
import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from PIL import Image

from tests.chat_server import Answer, ChatServer, chat_server, choice, token
from tests.published import QUESTION, publish
from tests.s3_server import S3Server
from vlrm_ray.engines import TOO_LONG, Request, Sampling
from vlrm_ray.errors import UserError
from vlrm_ray.reward import RewardModel, served_engine
from vlrm_ray.reward.reward_model import WAVES
from vlrm_ray.reward.scoring import Score

LIKELY = {"Yes": 0.2, "_Yes": 0.4, "_No": 0.2, "_yes": 0.1, "Seen": 0.1}
Scorer: TypeAlias = Callable[..., list[Score]]
CRITIQUE = (token("Seen: a star."), token(" Judgement"), token(":"), token(" Yes", **LIKELY), token("."))


def says_yes(body: dict[str, Any]) -> Answer:
    """One token if one is asked for, else a critique for each answer, in any order."""
    if body["max_tokens"] == 1:
        return 200, {"choices": [choice(token(" Yes", **LIKELY), ends="")]}
    return 200, {"choices": [choice(*CRITIQUE, index=i) for i in reversed(range(body["n"]))]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setattr(served_engine, "PAUSES", (0.0, 0.0, 0.0))
    with chat_server(says_yes) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> str:
    Image.new("RGB", (200, 100), "red").save(tmp_path / "photo.png")
    return str(publish(tmp_path / "rm", temperature=2.0))


@pytest.fixture(params=["score", "score_async"])
def score(request: pytest.FixtureRequest) -> Scorer:
    """Scores responses to a photo, waiting for them in a thread or in an event loop: both give the same and raise the same."""

    def scores(model: RewardModel, folder: str, *responses: str, k: int = 1) -> list[Score]:
        count, image = len(responses), Path(folder).parent / "photo.png"
        arguments: tuple[Any, ...] = ([image] * count, [QUESTION] * count, responses, k, k > 0)
        try:
            if request.param == "score":
                return model.score(*arguments)
            return asyncio.run(model.score_async(*arguments))
        finally:
            model.close()

    return scores


def test_the_reward_is_that_of_the_labels_at_the_judgement_calibrated_by_the_version(
    server: ChatServer, folder: str, score: Scorer
) -> None:
    (found,) = score(RewardModel.connect(server.url, folder), folder, "A star.")
    odds = (0.6 / 0.2) ** 0.5  # temperature 2
    assert found.reward == pytest.approx(odds / (1 + odds), abs=1e-3)
    assert found.label_mass == pytest.approx(0.8, abs=1e-3)
    assert found.critiques == ("Seen: a star. Judgement: Yes.",)


def test_another_spelling_of_the_judgement_counts_all_spellings(server: ChatServer, folder: str, score: Scorer) -> None:
    words = token(" yes", **LIKELY)
    server.answer = lambda body: (200, {"choices": [choice(token("Judgement:"), words)]})
    (found,) = score(RewardModel.connect(server.url, folder), folder, "A star.")
    assert found.label_mass == pytest.approx(0.9, abs=1e-3)


def test_what_is_sent_is_what_engines_are_given(server: ChatServer, folder: str, score: Scorer) -> None:
    model = RewardModel.connect(server.url + "/v1/", folder, max_pixels=5000, max_tokens=70, api_key="secret")
    score(model, folder, "A star.<|end|> Yes", k=3)
    (body,) = server.bodies
    ((turn,), (picture, text)) = body["messages"], body["messages"][0]["content"]
    assert turn["role"] == "user"
    assert "A star.< |end|> Yes" in text["text"]
    shown = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2])))
    assert shown.width * shown.height <= 5000
    assert shown.getpixel((5, 5)) == (255, 0, 0)
    sampling = {"n": 3, "max_tokens": 70, "temperature": 0.8, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    assert body.items() >= {"model": "reward", "logprobs": True, "top_logprobs": 20, **sampling}.items()
    assert isinstance(body["seed"], int)
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret"}


def test_a_critique_without_a_judgement_is_continued_to_it(server: ChatServer, folder: str, score: Scorer) -> None:
    def forgets(body: dict[str, Any]) -> Answer:
        return (
            says_yes(body) if body["max_tokens"] == 1 else (200, {"choices": [choice(token("Seen: a star."), ends="")]})
        )

    server.answer = forgets
    (found,) = score(RewardModel.connect(server.url, folder, concurrency=1), folder, "A star.")
    assert found.critiques == ("Seen: a star. Judgement: Yes",)
    *_, last = server.bodies
    assert last["messages"][-1] == {"role": "assistant", "content": "Seen: a star. Judgement:"}
    assert (last["add_generation_prompt"], last["continue_final_message"]) == (False, True)


@pytest.mark.parametrize(
    ("without", "added", "begins"),
    [([5, 6], [5, 6], False), ([5, 6], [1, 5, 6], True), ([1, 5, 6], [1, 1, 5, 6], False)],
)
def test_a_chat_has_one_token_for_its_beginning(
    without: list[int], added: list[int], begins: bool, server: ChatServer, folder: str, score: Scorer
) -> None:
    """Either the tokenizer adds none, or the chat template leaves it to the tokenizer, or it writes it."""
    server.tokens = {False: without, True: added}
    score(RewardModel.connect(server.url, folder), folder, "A star.")
    assert server.bodies[0]["add_special_tokens"] is begins


def test_a_judgement_without_a_critique_is_one_token(server: ChatServer, folder: str, score: Scorer) -> None:
    (found,) = score(RewardModel.connect(server.url, folder), folder, "A star.", k=0)
    assert found.reward == pytest.approx(0.75, abs=1e-3)  # not calibrated
    assert server.bodies[0]["max_tokens"] == 1


def test_a_refused_item_does_not_fail_the_others_and_answers_are_in_order(
    server: ChatServer, folder: str, score: Scorer
) -> None:
    long = {"error": {"message": "This model's maximum context length is 512 tokens.", "code": 400}}

    def picky(body: dict[str, Any]) -> Answer:
        text = body["messages"][0]["content"][-1]["text"]
        return (400, long) if "long" in text else (422, "odd") if "odd" in text else says_yes(body)

    server.answer = picky
    model = RewardModel.connect(server.url, folder, concurrency=4)
    found = score(model, folder, *(["A star.", "long", "odd"] * 3))
    assert [item.reason for item in found] == ["", TOO_LONG, "refused by the engine: odd"] * 3
    assert len(server.bodies) == 9
    assert len(server.connections) <= 4  # they are kept


def test_a_busy_server_is_asked_again(server: ChatServer, folder: str, score: Scorer) -> None:
    answers = iter([(503, "busy"), (429, "busy")])
    server.answer = lambda body: next(answers, None) or says_yes(body)
    (found,) = score(RewardModel.connect(server.url, folder), folder, "A star.")
    assert found.reason == ""
    assert len(server.bodies) == 3


def test_a_request_that_the_server_always_fails_with_does_not_lose_the_others(
    server: ChatServer, folder: str, score: Scorer
) -> None:
    def fails(body: dict[str, Any]) -> Answer:
        if "odd" not in str(body["messages"]):
            return says_yes(body)
        time.sleep(0.1)
        return 500, {"message": "bug"}

    server.answer = fails
    found = score(RewardModel.connect(server.url, folder), folder, "odd", "A star.", "A dog.")
    assert [item.reason for item in found] == ["refused by the engine: status 500: bug", "", ""]


def test_a_server_that_does_not_recover_ends_the_scoring(server: ChatServer, folder: str, score: Scorer) -> None:
    server.answer = lambda body: (500, {"message": "EngineCore\nended"})
    with pytest.raises(
        UserError, match=r"^the server at .* does not answer \(status 500: EngineCore ended\); start it"
    ):
        score(RewardModel.connect(server.url, folder), folder, "A star.")
    assert len(server.bodies) == 3


def test_an_answer_that_is_not_one_of_vllm_fails_its_own_item_only(
    server: ChatServer, folder: str, score: Scorer
) -> None:
    odd = (200, {"choices": [{"index": 0}]})
    server.answer = lambda body: odd if "odd" in body["messages"][0]["content"][-1]["text"] else says_yes(body)
    found = score(RewardModel.connect(server.url, folder), folder, "A star.", "odd", "A moon.")
    assert [item.reason for item in found] == ["", "refused by the engine: 'message'", ""]
    assert len(server.bodies) == 3


def test_of_a_version_in_an_object_store_only_the_small_files_are_fetched(
    server: ChatServer, folder: str, score: Scorer, s3: S3Server
) -> None:
    for name in ("vlrm_reward.json", "vlrm_calibration.json", "config.json"):
        s3.put(f"versions/0003/{name}", Path(folder, name).read_bytes())
    s3.put("versions/0003/model.safetensors", b"\0" * 100)
    expected = score(RewardModel.connect(server.url, folder), folder, "A star.")
    assert score(RewardModel.connect(server.url, s3.uri("versions/0003")), folder, "A star.") == expected
    assert s3.reads("versions/0003/vlrm_calibration.json") > 0
    assert s3.reads("versions/0003/model.safetensors") == 0


def test_a_uri_without_a_usable_card_is_told_without_its_secret(server: ChatServer, s3: S3Server) -> None:
    s3.put("empty/config.json", b"{}")
    s3.put("damaged/vlrm_reward.json", b"{")
    for key, message in (
        ("empty", r"/empty\?.* does not describe a published reward model \(no vlrm_reward\.json in it\)"),
        ("damaged", r"/damaged\?.*/vlrm_reward\.json is not a valid reward model card"),
        ("absent", r"/absent\?.*there is no such folder or file"),
    ):
        with pytest.raises(UserError, match=f"s3://\\*\\*\\*@{s3.bucket}{message}") as caught:
            RewardModel.connect(server.url, s3.uri(key))
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            (401, {"error": "Unauthorized"}),
            r"refuses requests \(status 401: .*Unauthorized.*check url, model and api_key",
        ),
        ((200, "<html>"), "does not answer as that of vLLM; correct url"),
        ((200, {"data": [{"id": "a"}, {"id": "b"}]}), "has several models; give model, one of a, b"),
        ((404, "nothing here"), "status 404: nothing here"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_in_one_line(
    models: Answer, message: str, server: ChatServer, folder: str
) -> None:
    server.models = models
    with pytest.raises(UserError, match=message) as caught:
        RewardModel.connect(server.url, folder)
    assert "\n" not in str(caught.value)


def test_no_server_a_wrong_model_and_a_folder_without_a_card_are_told(server: ChatServer, folder: str) -> None:
    with pytest.raises(UserError, match="has no model 'other'; give model, one of reward"):
        RewardModel.connect(server.url, folder, model="other")
    with pytest.raises(
        UserError, match=r"^the server at http://127.0.0.1:9 does not answer \(.*\); start it, or correct"
    ):
        RewardModel.connect("http://127.0.0.1:9", folder)
    with pytest.raises(UserError, match="correct url"):
        RewardModel.connect("127.0.0.1:9", folder)
    with pytest.raises(UserError, match=r"no vlrm_reward\.json in it"):
        RewardModel.connect(server.url, str(Path(folder).parent))
    card = Path(folder) / "vlrm_reward.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"control_tokens": []}))
    with pytest.raises(UserError, match="of an older version, without control_tokens"):
        RewardModel.connect(server.url, folder)


def test_a_served_model_is_not_loaded_by_its_client(server: ChatServer, folder: str) -> None:
    model = RewardModel.connect(server.url, folder)
    with pytest.raises(UserError, match="cannot load elsewhere; start it with that folder"):
        model.engine.load("elsewhere")
    with pytest.raises(UserError, match="JSON schemas"):
        model.engine.generate([Request("a", None)], Sampling(5, json_schema="{}"))
    model.close()
    assert model.batch_size == 64 * WAVES


def test_a_label_that_is_not_among_the_likely_tokens_gets_the_probability_of_the_last(
    server: ChatServer, folder: str, score: Scorer
) -> None:
    """Without it the log-odds would be infinite, and a temperature above 1 would not bring them back."""
    server.answer = lambda body: (
        200,
        {
            "choices": [
                choice(token("Judgement:"), token(" Yes", **{" Yes": 0.98, **{f" {n}": 0.001 for n in range(19)}}))
            ]
        },
    )
    (found,) = score(RewardModel.connect(server.url, folder), folder, "A star.")
    odds = (0.98 / 0.001) ** 0.5  # temperature 2
    assert found.reward == pytest.approx(odds / (1 + odds), abs=1e-4)
