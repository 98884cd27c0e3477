"""What would have caught a loss applied to the wrong thing: the model learns what is there to learn."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from plant_pathology.metrics import best_threshold, decide, sample_f1
from plant_pathology.model import Classifier
from plant_pathology.symmetries import views


def batches(count=12, multilabel=True):
    generator = torch.Generator().manual_seed(0)
    targets = torch.zeros(count, 4)
    targets[torch.arange(count), torch.arange(count) % 4] = 1
    if multilabel:
        targets[::3, 0] = 1
    images = torch.rand(count, 3, 32, 32, generator=generator)
    return DataLoader([{"images": images, "targets": targets}], batch_size=None)


def test_it_learns_a_dozen_images_by_heart():
    for multilabel in (True, False):
        pl.seed_everything(0, verbose=False)
        data = batches(multilabel=multilabel)
        model = Classifier("test_resnet", False, 4, multilabel, lr=5e-3, weight_decay=0.0, warmup=0.1)
        trainer = pl.Trainer(
            max_epochs=60,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            accelerator="cpu",
        )
        trainer.fit(model, data, data)
        probabilities, targets = model.validation_results()
        threshold, f1 = best_threshold(probabilities, targets, multilabel)
        assert f1 == 1.0
        assert sample_f1(decide(probabilities, threshold, multilabel), targets) == 1.0


def test_views_are_as_many_different_images_of_the_same_square_as_is_first():
    images = torch.rand(2, 3, 5, 5)
    for count in (1, 2, 4, 8):
        seen = list(views(images, count))
        assert torch.equal(seen[0], images) and len({view.numpy().tobytes() for view in seen}) == len(seen) == count
        assert all(torch.equal(view[0].flatten(1).sort().values, images[0].flatten(1).sort().values) for view in seen)
    # A group: the views of a view are the same eight.
    group, again = ({view.numpy().tobytes() for view in views(each, 8)} for each in (images, images.rot90(1, (-2, -1))))
    assert group == again


def test_probabilities_come_from_logits_once():
    model = Classifier("test_resnet", False, 4, True, lr=1e-3, weight_decay=0.0, warmup=0.1)
    logits = torch.tensor([[-6.0, 0.0, 6.0, 2.0]])
    torch.testing.assert_close(model.probabilities(logits), torch.sigmoid(logits))
    assert model(torch.rand(2, 3, 32, 32)).min() < 0, "forward gives logits, not probabilities"
