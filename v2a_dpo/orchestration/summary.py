"""The summary of a pipeline run, written beside its artifacts and sent to a webhook, whether it succeeded or not."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from v2a_dpo.artifacts.json_files import read_json, write_json
from v2a_dpo.artifacts.layout import SPLITS, Layout
from v2a_dpo.artifacts.location import exists, join
from v2a_dpo.artifacts.manifest import MANIFEST
from v2a_dpo.evaluation.folder import EvaluationFolder

#: Under the root, overwritten by the next run on the same root.
SUMMARY_FILE = "run-summary.json"
#: The webhook's address, if any. It may hold a secret, so it comes by the environment alone.
WEBHOOK_VARIABLE = "V2A_DPO_WEBHOOK"
_TIMEOUT_S = 10


@dataclass(frozen=True)
class RunSummary:
    """How a run ended, which of its artifacts are complete, and what was decided about its model.

    `differences` maps system -> metric -> the paired difference to the reference system, as in `metrics.json`.
    """

    run: str
    state: str
    error: str
    root: str
    ended_at: str
    finished: dict[str, bool]
    differences: dict[str, dict[str, dict[str, float]]]
    gates_passed: bool | None
    registration: dict[str, Any] | None
    report: str | None

    def __str__(self) -> str:
        missing = [name for name, done in self.finished.items() if not done]
        text = f"{self.run}: {self.state}. Artifacts under {self.root}"
        text += f"; missing: {', '.join(missing)}" if missing else ", all complete"
        if self.gates_passed is not None:
            text += f"; the gates {'hold' if self.gates_passed else 'do not hold'}"
        return text + (f". {self.error}" if self.error else ".")


def summarize_run(root: str, *, run: str, state: str, error: str = "") -> RunSummary:
    """Writes `run-summary.json` under `root`, posts it to the webhook in V2A_DPO_WEBHOOK if set, and returns it.

    Reads only existing artifacts, so it works after a failure too. A webhook that does not answer is only logged.
    """
    layout = Layout(root)
    evaluation = EvaluationFolder(layout.evaluation)
    outputs = {
        "pairs": join(layout.pairs, MANIFEST),
        "aligned model": join(layout.aligned, "config.json"),
        "evaluation": evaluation.path(evaluation.METRICS),
        "report": layout.report,
        "decision": layout.decision,
        "registration": layout.registration,
    } | {f"{split} clips": join(layout.clips(split), MANIFEST) for split in SPLITS}
    finished = {name: exists(uri) for name, uri in outputs.items()}
    summary = RunSummary(
        run=run,
        state=state,
        error=error,
        root=root,
        ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        finished=finished,
        differences=evaluation.comparison().to_dict()["differences"] if finished["evaluation"] else {},
        gates_passed=read_json(outputs["decision"])["passed"] if finished["decision"] else None,
        registration=read_json(outputs["registration"]) if finished["registration"] else None,
        report=outputs["report"] if finished["report"] else None,
    )
    write_json(join(root, SUMMARY_FILE), asdict(summary))
    if webhook := os.environ.get(WEBHOOK_VARIABLE):
        _notify(webhook, summary)
    return summary


def _notify(webhook: str, summary: RunSummary) -> None:
    """Posts the summary as JSON; its `text` is what chat services show."""
    if not webhook.startswith(("https://", "http://")):
        print(f"No notification: {WEBHOOK_VARIABLE} is no http address.", flush=True)
        return
    body = json.dumps({"text": str(summary), "summary": asdict(summary)}, allow_nan=False).encode()
    request = urllib.request.Request(webhook, body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            print(f"Notified: status {answer.status}.", flush=True)
    except (urllib.error.URLError, TimeoutError) as error:
        # The address may hold a token: it is not printed.
        print(f"Webhook failed: {getattr(error, 'reason', error)}.", flush=True)
