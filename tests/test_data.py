import numpy as np
import torch

from plant_pathology.augment import Augment, draw
from plant_pathology.data import OrderedBatches, ShuffledBatches

AUGMENT = Augment(flip=True, rotate=20, scale=(0.7, 1.0), brightness=0.2)
NOTHING = Augment(flip=False, rotate=0, scale=(1.0, 1.0), brightness=0)


def order(seed, epoch):
    sampler = ShuffledBatches(100, 16, seed)
    sampler.set_epoch(epoch)
    return np.concatenate([batch.samples for batch in sampler])


def test_an_epoch_s_order_depends_on_seed_and_epoch_alone():
    assert (order(0, 3) == order(0, 3)).all()
    assert (order(0, 3) != order(0, 4)).any() and (order(0, 3) != order(1, 3)).any()


def test_an_epoch_shows_no_sample_twice_and_only_whole_batches():
    assert len(order(0, 0)) == len(set(order(0, 0))) == 96


def test_validation_sees_every_sample_once_in_order():
    batches = list(OrderedBatches(100, 16))
    assert np.concatenate([batch.samples for batch in batches]).tolist() == list(range(100))
    assert len(batches) == len(OrderedBatches(100, 16))


def test_an_image_is_augmented_alike_in_whichever_batch_it_comes():
    images = torch.rand(8, 3, 32, 32)
    draws = torch.from_numpy(draw(seed=0, epoch=2, samples=8))
    together = AUGMENT(images, draws)
    alone = torch.cat([AUGMENT(images[i : i + 1], draws[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, images)


def test_augmentation_of_nothing_changes_nothing():
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(NOTHING(images, torch.rand(4, Augment.DRAWS)), images, atol=1e-5, rtol=0)


def test_mirrored_and_turned_leaves_keep_their_shape():
    """A disc stays a disc: mirroring must not shear what rotation turns."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disc = ((x**2 + y**2) < 0.25).float().expand(16, 3, 64, 64)
    turned = Augment(flip=True, rotate=90, scale=(1.0, 1.0), brightness=0)(disc, torch.rand(16, Augment.DRAWS))
    torch.testing.assert_close(turned.sum(), disc.sum(), rtol=0.01, atol=0)
    assert (turned - disc).abs().mean() < 0.02
