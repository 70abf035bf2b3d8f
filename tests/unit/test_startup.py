"""A job imports what it uses: none of another package's slow parts before its first line."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"

# They build or read a whole CLIP, with its text tower and tokenizer.
WHOLE_CLIP = {"build_head", "fetch_base", "pretrain_base"}
# They touch a model or an update's tensors.
TENSORS = {
    *("attack_updates", "export_adapter", "finetune_ablation", "finetune_protected"),
    *("finetune_unprotected", "handle_updates", "measure_curvature", "merge_ablation"),
    *("merge_siblings", "merge_updates", "mix_pairs", "protect_update", "sweep_scales"),
}
SLOW = ("open_clip", "timm", "torchvision", "transformers", "peft", "torch._dynamo")

LOAD = """
import tempfile, torch
from trap2.models.clip.architectures import configuration
from trap2.models.clip.convnext import convnext_tower
from trap2.models.clip.tower import load_tower
from trap2.models.clip.vision import VisionTower
from trap2.models.layers import lora_targets
from trap2.runtime import files
text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
vit = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
small = {"depths": [1, 1, 1, 1], "dims": [4, 4, 4, 4], "patch_size": 2}
convnext = {"image_size": 32, "timm_model_name": "convnext_tiny", "timm_model_args": small}
for vision, build in ((vit, VisionTower), (convnext, convnext_tower)):
    described = {"embed_dim": 4, "vision_cfg": vision, "text_cfg": text}
    path = tempfile.mkdtemp() + "/tower.safetensors"
    files.write_tensors(path, build(configuration(described)).state_dict())
    tower = load_tower(path, {"architecture": described}, torch.device("cpu"))
"""

ADAPT = """
from trap2.updates.settings import AdapterSettings
from trap2.updates.lora import LoraUpdate
LoraUpdate(tower, lora_targets(tower), AdapterSettings(), 0)
"""


def imports(names: set[str]) -> str:
    """What these scripts import from the library, as lines of a program."""
    found = set()
    for name in names:
        for node in ast.walk(ast.parse((SCRIPTS / f"{name}.py").read_bytes())):
            if isinstance(node, ast.ImportFrom) and node.module != "trap2.runtime.script":
                names_of = ", ".join(alias.name for alias in node.names)
                found.add(f"from {node.module} import {names_of}")
    return "\n".join(["import sys", *sorted(found)]) + "\n"


def loaded(program: str, of: tuple[str, ...]) -> set[str]:
    """Which of some modules a program has imported at its end."""
    program += f"\nprint(*sorted({{*{of}}} & {{*sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_job_without_a_model_imports_no_torch():
    scripts = {path.stem for path in SCRIPTS.glob("*.py")} - WHOLE_CLIP - TENSORS
    assert len(scripts) > 20
    assert loaded(imports(scripts), ("torch", *SLOW)) == set()


def test_a_job_on_towers_with_an_adapter_imports_torch_and_no_other_models():
    assert loaded(imports(TENSORS) + LOAD + ADAPT, ("torch", *SLOW)) == {"torch"}
