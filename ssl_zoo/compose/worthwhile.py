"""Whether pretraining is worth it on somebody's data, as a configuration asks: `ssl-zoo worth`.

1. Each of two to four ways of pretraining gets the same minutes, and a linear probe at several label budgets,
   beside random weights of its backbone and raw pixels or TF-IDF.
2. The one that is best on validation is pretrained anew for the longer part of the time that is left.
3. The best is fine-tuned, beside the same network from scratch in as many steps.

Everything goes through `ssl-zoo pretrain` and `ssl-zoo evaluate`, whose words are kept.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from math import lcm
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ssl_zoo import hub
from ssl_zoo.compose import composition, evaluation, overrides, pretraining
from ssl_zoo.compose.asking import composed
from ssl_zoo.compose.composition import EXPECTED, ConfigError
from ssl_zoo.compose.gate import instantiate
from ssl_zoo.compose.step_cost import cost, open_data
from ssl_zoo.compose.tokenizer import new_tokenizer
from ssl_zoo.compose.typed import again, data_words
from ssl_zoo.compose.worth_look import look
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text import TextData
from ssl_zoo.messages import heard, heard_by, note
from ssl_zoo.pretrain.writing import write_atomically
from ssl_zoo.transfer.table import Table
from ssl_zoo.trial.answer import Answer, Asked, Way
from ssl_zoo.trial.diary import Diary
from ssl_zoo.trial.lines import Tried, best, by_name, count
from ssl_zoo.trial.verdict import Figure, Labels, Verdict, judge, said, standing

FIRST, LAST = 0.45, 0.2  # shares of the time: of the first round, and of fine-tuning at the end
PUBLIC = ("dinov2_small", "dinov2_base", "dinov3_small", "modernbert_base")  # of configs/backbone
MORE = 4  # times the minutes, for who goes on
LONGER = 1.5  # how many times as long the second round has to be, to be worth its while
STEPS = (40, 300)  # of fine-tuning: least and most
RATES, BATCH = (3e-4, 3e-3), 32
SMALL = 2.2  # times what a row takes in pretraining, whose batches are larger, as seen on two cores
DECAYS = ("1e+0", "1e-2", "1e-4", "1e-6")  # of linear probes
EVERY = 20.0  # seconds between two lines of a piece that are shown on the way
FLOORS = {"raw pixels": "linear probe", "TF-IDF": "logistic regression", "random, frozen": "linear probe"}


def worth_from(cfg: DictConfig, words: list[str]) -> Answer:
    """Answer what a configuration asks, and write its page.

    Args:
        words: those that were settled, of which the ones about data are handed on.

    Raises:
        ConfigError, DataError, BoardError, OtherQuestion: what was asked for cannot be.
        KeyboardInterrupt, SystemExit: stopped; the same call goes on.
    """
    asked = look(cfg, words)
    out = Path(cfg.out or Path("worth") / asked.name)
    whole: dict[str, Any] = composition.plain(cfg)
    chosen = {key: whole[key] for key in ("lines", "public", "labels", "seeds", "seed", "length")}
    diary = Diary(out, {"data": asked.fed, "labelled": asked.labelled, "minutes": cfg.minutes, **chosen})
    return Work(cfg, asked, out, diary).answer()


class Work:
    """The pieces of an answer, in the order in which they are done.

    Args:
        cfg: the configuration. asked: what is looked at. out: the folder. diary: what is done already.
    """

    def __init__(self, cfg: DictConfig, asked: Asked, out: Path, diary: Diary):
        self.cfg, self.asked, self.out, self.diary = cfg, asked, out, diary
        self.total = 60 * float(cfg.minutes)
        self.left: list[str] = []
        self.ways: list[Way] = []
        self.figures: list[Figure] = []

    def answer(self) -> Answer:
        """Do what is left, and say what was found."""
        asked = self.asked
        note(
            f"{asked.name}: {asked.rows:,} labelled rows to train on, {asked.classes} classes; about "
            f"{self.cfg.minutes:g} minutes, in {self.out}"
        )
        tried = self.tried()
        share = FIRST * self.total / 60 / len(tried)
        for one in tried:
            self.way(one, one.name, share)
        for one in self.public(tried[0], share):
            self.ways.append(one)
            self.measure(one)
        self.longer(share)
        self.finetuned()
        verdict = judge(self.figures, asked.all_labels)
        self.left += [f"{way.tried.name} failed: {way.failed}" for way in self.ways if way.failed]
        told = [(way.tried.name, way.pretraining.get("told")) for way in self.ways]
        self.left += [f"{name}: {one}" for name, one in told if one]
        made = Answer(
            asked,
            tuple(self.ways),
            tuple(self.figures),
            verdict,
            tuple(self.left),
            self.commands(verdict),
            self.diary.seconds,
            self.out,
            self.out / "worth.html",
        )
        from ssl_zoo.pages.worth import worth_page  # brings what draws charts

        write_atomically(made.page, worth_page(made).encode())
        told = [asdict(figure) | {"half": figure.half} for figure in made.figures]
        text = {"sentences": verdict.sentences, "winner": verdict.winner, "figures": told}
        write_atomically(self.out / "answer.json", json.dumps(text, indent=1).encode())
        return made

    def tried(self) -> list[Tried]:
        """The ways of pretraining."""
        if self.cfg.lines is not None:
            return [by_name(name) for name in self.cfg.lines]
        found = best(self.asked.modality, count(self.cfg.minutes))
        for one in found:
            note(f"{one.name}: {one.why}")
        return found

    # Pretraining

    def way(self, tried: Tried, folder: str, minutes: float) -> Way:
        """Pretrain one way for so many minutes, and measure it."""
        run = self.out / "runs" / folder
        words = self.pretraining_words(tried, run, minutes)
        found = self.piece(
            f"pretrain {folder}", lambda: self.pretrain(words), f"{minutes:.1f} minutes of pretraining"
        )
        one = Way(tried, run, minutes, found, found.get("backbone", ""))
        self.ways.append(one)
        if not one.failed:
            self.measure(one)
        return one

    def pretraining_words(self, tried: Tried, run: Path, minutes: float) -> list[str]:
        """The words of `ssl-zoo pretrain`."""
        threads = [] if self.cfg.threads is None else [f"threads={self.cfg.threads}"]
        trainer = (
            [] if self.cfg.device == "auto" else [f"trainer={'cpu' if self.cfg.device == 'cpu' else 'gpu'}"]
        )
        own = [f"run={overrides.quote(str(run))}", f"seed={self.cfg.seed}", f"budget.minutes={minutes:.3f}"]
        recipe = any(word.startswith("experiment=") for word in tried.words)  # says its steps and its looks
        spared = ["budget.steps=null"] if recipe else ["evaluate_every=0"]
        return [*tried.words, *self.asked.fed, *own, *spared, *threads, *trainer]

    def pretrain(self, words: list[str]) -> dict[str, Any]:
        """Stage 1 of one way; what it cost. Batches larger than the data become half as large as it, or a
        little less where a term of a sum reads one row in n."""
        try:
            return self.trained(words)
        except DataError as error:
            if (few := re.search(r"the data has ([\d,]+) rows, fewer than one batch", str(error))) is None:
                raise
            rows = int(few[1].replace(",", ""))
        with composed("pretrain", words) as (cfg, _):
            unit = lcm(*(cfg.objective.get("every") or {}).values())
        batch = max(2, unit, rows // 2 // unit * unit)
        kept = [word for word in words if not word.startswith("batch_size=")]
        told = f"batches as large as the recipe's: {rows:,} rows are read in batches of {batch:,}"
        return self.trained([*kept, f"batch_size={batch}"]) | {"told": told}

    def trained(self, words: list[str]) -> dict[str, Any]:
        """A finished run of these words; what it cost."""
        with composed("pretrain", words) as (cfg, choices):
            backbone = OmegaConf.to_yaml(cfg.backbone, resolve=True)
            trained = pretraining.pretrain_from(cfg.copy(), choices)
            if trained.summary["stopped"]:
                sys.exit(143)  # by a signal; what it did is saved
            flops = None
            with contextlib.suppress(*EXPECTED):
                flops = cost(cfg, *open_data(cfg)).flops * trained.summary["steps"]
        keys = ("steps", "samples", "seconds", "backbone_parameters")
        kept = {key: trained.summary.get(key) for key in keys}
        return {"words": words, "backbone": backbone, "flops": flops, "training": kept}

    def public(self, like: Tried, minutes: float) -> Iterator[Way]:
        """Public weights as they are, and pretrained further in the way that is given."""
        if self.cfg.public is None:
            self.left.append(
                "public weights, as none were named (public=dinov2_small, timm/NAME, hf/NAME or hf/FOLDER)"
            )
            return
        words = public_words(str(self.cfg.public))
        one = Tried(str(self.cfg.public), (*without_backbone(like.words), *words), "public weights")
        run = self.out / "runs" / "public"
        found = self.piece("public", lambda: self.draw(one, run), "public weights")
        yield Way(replace(one, name=f"{one.name}, as it is"), run, 0.0, found, found.get("backbone", ""))
        if not found.get("failed"):
            further = replace(
                one, name=f"{one.name}, {like.name} on it", words=(*one.words, "guard=head_start")
            )
            self.way(further, "public-further", minutes)

    def draw(self, one: Tried, run: Path) -> dict[str, Any]:
        """Public weights in a folder as pretraining would leave it."""
        words = [*one.words, *self.asked.fed, "budget.steps=1"]
        with composed("pretrain", words) as (cfg, _):
            data = instantiate(cfg.data, _convert_="all")
            make = instantiate(cfg.backbone, _convert_="all", _partial_=True)
            run.mkdir(parents=True, exist_ok=True)
            if isinstance(data, TextData):
                tokenizer = new_tokenizer(cfg, data, cfg.backbone)
                tokenizer.save(run / "tokenizer")
                backbone = make(vocabulary=tokenizer.vocabulary)
            else:
                backbone = make()
            OmegaConf.save(cfg, run / "config.yaml")
            hub.save(backbone, run / "backbone")
            return {
                "words": words,
                "backbone": OmegaConf.to_yaml(cfg.backbone, resolve=True),
                "flops": 0,
                "training": {},
            }

    def longer(self, share: float) -> None:
        """Pretrain the way that is best on validation again, in what is left of the time."""
        leader = self.leader()
        if leader is None:
            return
        late = ("pretrain longer", "measure longer", "fine-tune")  # of an earlier session
        spent = sum(one["seconds"] for name, one in self.diary.pieces.items() if name not in late)
        minutes = (self.total * (1 - LAST) - spent) / 60
        name = leader.tried.name
        if leader.minutes == 0 or minutes < LONGER * share:
            self.left.append(f"a longer run of {name}, for which {max(0.0, minutes):.1f} minutes were left")
            return
        longer = replace(leader.tried, name=f"{name}, {minutes / share:.1f} times as long")
        self.way(longer, "longer", minutes)

    def leader(self) -> Way | None:
        """The way that is best on validation so far; None where none was measured."""
        ours = standing([one for one in self.figures if one.pretrained])
        return next((way for way in self.ways if ours and way.tried.name == ours[0]), None)

    # Measuring

    def measure(self, way: Way) -> None:
        """The linear probe of a way at every label budget; with the floors that nobody measured yet."""
        if way.failed:
            return
        folder = way.run.name
        new = way.backbone not in {one.backbone for one in self.ways if one.run != way.run}
        floors = "false" if not new else "[random]" if self.figures else "true"
        protocol = "layers" if self.asked.modality == "text" else "linear"
        grid = f"protocol.weight_decays=[{','.join(DECAYS)}]"
        words = [
            *self.measuring_words(way.run),
            f"protocol={protocol}",
            grid,
            f"floors={floors}",
        ]
        found = self.piece(f"measure {folder}", lambda: self.evaluate(words), "linear probes")
        if "failed" in found:
            self.left.append(f"the linear probe of {way.tried.name}: {found['failed']}")
        of_network = "" if not self.figures else f" of {folder}"
        for one in found.get("figures", ()):
            self.add(one, way, "linear probe", f"random weights{of_network}")

    def add(self, one: dict[str, Any], way: Way, how: str, random: str) -> None:
        """Take up a line of a table, unless a floor of its name was measured before."""
        name = one["name"]
        ours = name == "pretrained"
        line = way.tried.name if ours else random if name == "random, frozen" else name
        made = Figure(
            line,
            how if ours else FLOORS.get(name, how),
            ours,
            one["labels"],
            tuple(one["values"]),
            one["validation"],
            one["test"],
            one["seconds"],
        )
        if (made.line, made.how, made.labels) not in {(f.line, f.how, f.labels) for f in self.figures}:
            self.figures.append(made)

    def measuring_words(self, run: Path, labels: Sequence[Labels] = ()) -> list[str]:
        """The words of `ssl-zoo evaluate` that all measurements have. labels: () for all budgets."""
        cfg = self.cfg
        budgets = ",".join("null" if one is None else str(one) for one in labels or self.asked.budgets)
        seeds = ",".join(map(str, cfg.seeds))
        words = [
            f"run={overrides.quote(str(run))}",
            *self.asked.labelled,
            f"labels=[{budgets}]",
            f"seeds=[{seeds}]",
        ]
        words += [f"device={cfg.device}"]
        words += [] if cfg.length is None else [f"length={cfg.length}"]
        return words + ([] if cfg.threads is None else [f"threads={cfg.threads}"])

    def evaluate(self, words: list[str]) -> dict[str, Any]:
        """Stage 2 of one way; the lines of its table."""
        with composed("evaluate", words) as (cfg, choices):
            table: Table = evaluation.evaluate_from(cfg, choices)
        return {
            "words": words,
            "figures": [
                {
                    "name": name,
                    "labels": one.labels,
                    "values": one.values,
                    "validation": one.chosen_by,
                    "test": one.test,
                    "seconds": round(one.seconds, 1),
                }
                for name, one in table.results
            ],
        }

    def finetuned(self) -> None:
        """The best way fine-tuned, beside the same network from scratch."""
        winner = self.leader()
        if winner is None:
            return
        steps, labels = (0, ()) if "fine-tune" in self.diary.pieces else self.tuning(winner)
        if labels is None:
            self.left.append(
                f"fine-tuning of {winner.tried.name}, whose {STEPS[0]} steps at one number of labels would "
                f"take more than the {self.spare / 60:.1f} minutes that were left"
            )
            return
        words = [
            *self.measuring_words(winner.run, labels),
            "protocol=finetune",
            "floors=[scratch]",
            f"steps={steps}",
        ]
        words += [
            f"protocol.lrs=[{RATES[0]},{RATES[1]}]",
            f"protocol.batch_size={BATCH}",
            "protocol.head_start=probe",
        ]
        found = self.piece(
            "fine-tune", lambda: self.evaluate(words), f"fine-tuning in {steps} steps, and from scratch"
        )
        if "failed" in found:
            self.left.append(f"fine-tuning of {winner.tried.name}: {found['failed']}")
        tuned = {one["labels"] for one in found.get("figures", ())}
        if tuned and (without := [said(one) for one in self.asked.budgets if one not in tuned]):
            self.left.append(f"fine-tuning with {', '.join(without)}, for which there was no time")
        for one in found.get("figures", ()):
            if one["name"] in ("pretrained", "from scratch"):
                self.add(one, winner, "fine-tuned", "")

    @property
    def spare(self) -> float:
        """Seconds for fine-tuning: what is left, and half of its share in any case."""
        return max(self.total - self.diary.seconds, 0.5 * LAST * self.total)

    def tuning(self, winner: Way) -> tuple[int, Sequence[Labels] | None]:
        """Steps of fine-tuning that fit into what is left, as fast as pretraining went, and at which numbers
        of labels: where the fewest steps are too many for all of these, the fewest labels and all come first.
        None where they are too many for one."""
        training, budgets = winner.pretraining.get("training") or {}, self.asked.budgets
        if not training.get("samples"):
            return STEPS[0], budgets
        seconds = SMALL * BATCH * training["seconds"] / training["samples"]
        each = 2 * (len(RATES) + len(self.cfg.seeds) - 1) * seconds  # of a step, with scratch, in every fit
        for many in range(len(budgets), 0, -1):
            steps = int(self.spare / (each * many))
            if steps >= STEPS[0]:
                return min(STEPS[1], steps), (*budgets[: many - 1], budgets[-1]) if many > 1 else budgets[:1]
        return 0, None

    # On the way

    def piece(self, name: str, work: Any, what: str) -> dict[str, Any]:
        """A piece of the diary; its lines go into a file, and some of them to whoever listens."""
        if name not in self.diary.pieces:
            note(f"[{self.diary.seconds / 60:4.1f} min] {name}: {what}")
        with quietly(self.out / "log.txt"):
            return self.diary.piece(name, work, EXPECTED)

    def commands(self, verdict: Verdict) -> tuple[str, ...]:
        """How to go on with the winner."""
        way = next((way for way in self.ways if way.tried.name == verdict.winner), None)
        if way is None:
            return ()
        asked, threads = self.asked, [] if self.cfg.threads is None else [f"threads={self.cfg.threads}"]
        if not any(gain.sign > 0 for gain in verdict.gains):
            longer = [f"minutes={MORE * float(self.cfg.minutes):.0f}", f"out={self.out}-longer"]
            of = [] if self.cfg.labelled is None else [f"labelled={overrides.quote(str(self.cfg.labelled))}"]
            return (again("worth", [*asked.fed, *of, *longer, *threads], data_words()),)
        typed = data_words() if self.cfg.labelled is None else [f"data={self.cfg.labelled}"]
        words = [f"run={way.run}", *asked.labelled, f"out={self.out / 'classifier'}"]
        found = [again("finetune", words, typed)]
        if way.minutes:
            begun = way.pretraining["words"]
            words = [word for word in begun if not word.startswith(("run=", "budget.minutes="))]
            words += [f"budget.minutes={MORE * way.minutes:.0f}", f"run={self.out / 'runs/long'}"]
            found.append(again("pretrain", words, data_words()))
        return tuple(found)


def public_words(name: str) -> list[str]:
    """Words for pretrained weights.

    Raises:
        ConfigError: it names no library and no backbone of configs/backbone that has public weights.
    """
    name, _, weights = name.partition("=")
    own = [] if not weights else [f"backbone.pretrained={overrides.quote(weights)}"]
    if name.startswith(("timm/", "hf/")) or name in PUBLIC:
        return [f"backbone={name if name in PUBLIC else overrides.quote(name)}", *own]
    raise ConfigError(
        f"public={name} names no weights: give {', '.join(PUBLIC)}, timm/NAME or hf/NAME of the hub, "
        "hf/FOLDER, or timm/NAME=FILE"
    )


def without_backbone(words: tuple[str, ...]) -> list[str]:
    """Words of pretraining without those of the backbone and its tokenizer."""
    return [
        word for word in words if overrides.split(word).key.split(".")[0] not in ("backbone", "tokenizer")
    ]


@contextlib.contextmanager
def quietly(log: Path) -> Iterator[None]:
    """Within, lines go to the end of a file, and one of them every `EVERY` seconds to whoever listens."""
    listener, terminal, last = heard(), sys.stderr, time.monotonic()

    def hear(line: str) -> None:
        nonlocal last
        print(line, file=file, flush=True)
        if time.monotonic() - last > EVERY and line.strip():
            last = time.monotonic()
            if listener is None:
                print(f"    {line}", file=terminal, flush=True)
            else:
                listener(f"    {line}")

    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, "a", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
        heard_by(hear),
        warnings.catch_warnings(),
    ):
        yield
