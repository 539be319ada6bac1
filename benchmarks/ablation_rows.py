"""The rows of the ablation: what each changes in `person/tiny_svllreid.yml`."""

from __future__ import annotations

from typing import Any

NO_SSL = {"MODEL.USE_SSL_STAGE1": False, "MODEL.USE_SSL": False}
LANGUAGE, VISION = {"MODEL.USE_SSL": False}, {"MODEL.USE_SSL_STAGE1": False}
RAW, UNTRAINED, BASELINE, CLIPREID, SVLLREID = (
    "raw pixels", "untrained features", "baseline without text", "CLIP-ReID (both switches off)",
    "both: SVLL-ReID",
)  # fmt: skip
RANDOM, BATCH_64 = "both, from random weights", "batch 64 at twice the rate"
ONLY_LANGUAGE, ONLY_VISION = "+ language self-supervision", "+ vision self-supervision"
MAIN: dict[str, dict[str, Any]] = {
    RAW: {},
    UNTRAINED: {},
    # Its erased area would be another one, as published: here the images are the same as every other row's.
    BASELINE: {**NO_SSL, "MODEL.USE_TEXT": False, "INPUT.RE_MAX_AREA": 1 / 3},
    CLIPREID: NO_SSL,
    ONLY_LANGUAGE: LANGUAGE,
    ONLY_VISION: VISION,
    SVLLREID: {},
    RANDOM: {"MODEL.PRETRAINED": "random"},
}
FOURFOLD = {"SOLVER.STAGE2.IMS_PER_BATCH": 64, "SOLVER.STAGE2.BASE_LR": 0.004}
# Each sweep is compared with the row it changes one thing of.
SWEEPS: dict[str, dict[str, dict[str, Any]]] = {
    ONLY_LANGUAGE: {
        **{
            f"prompts: {method} {scale}": {
                **LANGUAGE,
                "SOLVER.STAGE1.PROMPT_AUG_METHOD": method,
                "SOLVER.STAGE1.PROMPT_AUG_SCALE": scale,
            }
            for method in ("mask", "swap", "mix")
            for scale in (0.2, 0.5)
            if (method, scale) != ("mask", 0.5)
        },
        "language weight 0.2": {**LANGUAGE, "SOLVER.STAGE1.SSL_LOSS_WEIGHT": 0.2},
        "language weight 2": {**LANGUAGE, "SOLVER.STAGE1.SSL_LOSS_WEIGHT": 2.0},
        "trained language head": {**LANGUAGE, "SOLVER.STAGE1.TRAIN_SSL_HEAD": True},
        BATCH_64: {**LANGUAGE, **FOURFOLD},
    },
    # Its contrast is among four times as many images, of which fewer show the same person.
    BATCH_64: {"both, batch 64": FOURFOLD},
    SVLLREID: {
        "SimSiam instead of SimCLR": {"MODEL.SSL_TYPE": "SIMSIAM"},
        "vision weight 0.2": {"SOLVER.STAGE2.SSL_LOSS_WEIGHT": 0.2},
        "text weight 0.1": {"MODEL.I2T_LOSS_WEIGHT": 0.1},
        "no random erasing": {"INPUT.RE_PROB": 0.0},
        "random erasing 0.5, as published": {"INPUT.RE_PROB": 0.5},
        "no side information": {"MODEL.SIE_CAMERA": False},
        "stride 12": {"MODEL.STRIDE_SIZE": [12, 12]},
    },
}
ROWS = MAIN | {row: changes for sweep in SWEEPS.values() for row, changes in sweep.items()}
