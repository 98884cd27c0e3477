"""Training data: order of samples, augmentation, progressive resizing, and shards that download during training."""

import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from plant_pathology.core.errors import UserError
from plant_pathology.data.shards import shard_name
from plant_pathology.datastore import open_version
from plant_pathology.store.cache import Cache
from plant_pathology.store.folder import FolderBackend
from plant_pathology.store.keys import object_key
from plant_pathology.store.store import Store
from plant_pathology.training.augmentation import Augment, augment_batch, augment_images
from plant_pathology.training.batches import Batch, OrderedBatches, ShuffledBatches
from plant_pathology.training.data import StoredData
from plant_pathology.training.progressive_resizing import FULL_SIZE, ProgressiveResizing
from plant_pathology.training.transforms import Transforms
from support.commands import config, run_module
from support.prepared import leaves as leaves_of_a_store
from support.prepared import prepare

AUGMENT = Augment(flip=True, rotate=20, crop=0.7, brightness=0.2)
NO_CHANGE = Augment(flip=False, rotate=0, crop=1.0, brightness=0)
SHARD_OF = np.arange(100) // 10


def order(seed, epoch, window=10):
    sampler = ShuffledBatches(SHARD_OF, 16, window, seed)
    sampler.set_epoch(epoch)
    return np.concatenate([batch.samples for batch in sampler])


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    assert (order(0, 3) == order(0, 3)).all()
    assert (order(0, 3) != order(0, 4)).any() and (order(0, 3) != order(1, 3)).any()


def test_an_epoch_has_no_sample_twice_and_only_full_batches():
    assert len(order(0, 0)) == len(set(order(0, 0))) == 96


def test_an_epoch_needs_one_window_of_shards_at_a_time_in_the_announced_order():
    sampler = ShuffledBatches(SHARD_OF, 10, window=4, seed=0)
    needed = SHARD_OF[np.concatenate([batch.samples for batch in sampler])]
    order = sampler.shard_order()
    for start, end in [(0, 1), (1, 3), (3, 7), (7, 10)]:
        part = needed[start * 10 : end * 10]
        assert set(part) == set(order[start:end])
        assert end - start == 1 or (np.diff(part) != 0).sum() > end - start, "within a window, samples are mixed"


def test_validation_uses_every_sample_once_in_order():
    batches = list(OrderedBatches(100, 16))
    assert np.concatenate([batch.samples for batch in batches]).tolist() == list(range(100))
    assert len(batches) == len(OrderedBatches(100, 16))


@pytest.mark.parametrize(
    ("listed", "made"),
    [({"FiveCrop": {"size": 32}}, "FiveCrop makes tuple of"), ({"ToPILImage": {}}, "ToPILImage makes Image of")],
)
def test_a_transform_that_makes_no_image_of_an_image_is_refused(listed, made):
    with pytest.raises(UserError, match=f"data.transforms: {made} an image"):
        next(Transforms([listed], seed=0)([np.zeros((32, 32, 3), np.uint8)], epoch=0, samples=[0]))


def leaves(count=8, side=48):
    """Draw smooth images, like photographs."""
    coarse = np.random.default_rng(0).random((count, 3, 6, 6), dtype=np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(side, side), mode="bicubic")
    return (smooth.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def on_device(pixels, maps, light, side=48):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (
        augment_batch(images, torch.from_numpy(maps), torch.from_numpy(light), side).permute(0, 2, 3, 1).numpy() * 255
    )


def on_cpu(pixels, maps, light, side=48):
    return np.stack(list(augment_images(pixels, maps, light, side)))


def test_cpu_and_gpu_augmentation_give_the_same_images():
    pixels, drawn = leaves(), AUGMENT.draw(seed=0, epoch=2, samples=8)
    np.testing.assert_allclose(on_cpu(pixels, *drawn), on_device(pixels, *drawn), atol=2)
    assert np.abs(on_cpu(pixels, *drawn).astype(int) - pixels).mean() > 10


@pytest.mark.parametrize("augment", [on_cpu, on_device])
def test_augmentation_of_an_image_does_not_depend_on_its_batch(augment):
    pixels, drawn = leaves(), AUGMENT.draw(seed=0, epoch=2, samples=8)
    alone = [augment(pixels[i : i + 1], *(each[i : i + 1] for each in drawn)) for i in range(8)]
    np.testing.assert_allclose(augment(pixels, *drawn), np.concatenate(alone), atol=1e-3)


@pytest.mark.parametrize("augment", [on_cpu, on_device])
def test_a_smaller_side_gives_the_same_image_with_fewer_pixels(augment):
    pixels, drawn = leaves(), AUGMENT.draw(0, 0, 8)
    halves = augment(pixels, *drawn, side=24)
    averaged = augment(pixels, *drawn).reshape(8, 24, 2, 24, 2, 3).mean(axis=(2, 4))
    assert halves.shape == (8, 24, 24, 3)
    assert np.abs(halves - averaged).mean() < 3 and np.abs(halves - averaged[:, ::-1]).mean() > 10


def test_progressive_resizing_grows_in_steps_to_full_size():
    resizing = ProgressiveResizing(start=0.5, until=0.5, epochs=8)
    assert [resizing.side(epoch, 96) for epoch in range(8)] == [48, 64, 64, 80, 96, 96, 96, 96]
    assert resizing.side(0, 100) == 48 and resizing.side(7, 100) == 100
    assert FULL_SIZE.side(0, 100) == 100


@pytest.mark.parametrize("augment", [on_cpu, on_device])
def test_augmentation_with_all_limits_at_zero_changes_nothing(augment):
    pixels = leaves()
    np.testing.assert_allclose(augment(pixels, *NO_CHANGE.draw(0, 0, 8)), pixels, atol=0.01)


def test_flips_and_rotations_do_not_distort():
    """A disc stays a disc: a flip must not shear a rotated image."""
    y, x = np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64), indexing="ij")
    disc = np.broadcast_to(255 * ((x**2 + y**2) < 0.25)[..., None], (16, 64, 64, 3)).astype(np.uint8)
    turning = Augment(flip=True, rotate=90, crop=1.0, brightness=0)
    turned = on_device(disc, *turning.draw(0, 0, 16), side=64)
    np.testing.assert_allclose(turned.sum(), disc.sum(), rtol=0.01)
    assert np.abs(turned - disc).mean() < 255 * 0.02


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def stored(request, raw, tmp_path_factory):
    """Push the sample in many small shards; return the folder of the store and its pointer."""
    root = tmp_path_factory.mktemp(request.param)
    overrides = [f"prepare.encoding={request.param}", "prepare.image_size=32", "prepare.shard_mb=0.02"]
    for module, *verb in (["prepare"], ["datastore", "push"]):
        done = run_module(module, *verb, "competition=sample", *overrides, f"paths.raw={raw}", cwd=root)
        assert done.returncode == 0, done.stderr
    return root


def data_of(root, workers=0):
    store = [f"store.uri=file://{root}/store", f"paths.root={root}"]
    return StoredData(open_version(config(*store)), 0, 16, window=2, workers=workers, augment=AUGMENT, seed=0)


def test_all_folds_train_for_the_last_training(root):
    version = data_of(root).version
    data = StoredData(version, "all", 16, window=2, workers=0, augment=AUGMENT, seed=0)
    assert len(data.training) == len(data.training.index) and set(data.training.column("fold")) == set(range(5))


def epoch(data, number):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(stored):
    alone, helped = epoch(data_of(stored), 3), epoch(data_of(stored, workers=2), 3)
    assert len(alone) == len(helped) > 1
    for one, other in zip(alone, helped, strict=True):
        assert one.keys() == other.keys() == {"images", "targets", "rows"}
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_for_gpu_augmentation_a_batch_holds_unchanged_pixels_and_the_drawn_changes(stored):
    data = data_of(stored)
    data.training.on_cpu = False
    samples = next(iter(ShuffledBatches(data.training.column("shard"), 16, window=2, seed=0))).samples
    batch = epoch(data, 0)[0]
    assert torch.equal(batch["images"], data.training[Batch(samples, None)]["images"])
    moved = data.on_after_batch_transfer(batch, 0)["images"]
    assert moved.shape == (16, 3, 32, 32) and moved.min() >= 0 and moved.max() <= 1


@dataclass(frozen=True)
class SlowBackend(FolderBackend):
    """A store whose downloads wait until `open` is set, except those in `at_once`."""

    open: threading.Event
    at_once: frozenset[str]

    def fetch(self, key, target):
        assert key in self.at_once or self.open.wait(60)
        super().fetch(key, target)


def test_training_starts_while_later_shards_are_still_downloading(stored, tmp_path):
    data = data_of(stored)
    order = ShuffledBatches(data.training.column("shard"), 4, window=2, seed=0).shard_order()
    names = [shard_name(number, data.manifest["encoding"]) for number in order]
    assert len(names) > 4
    first = ["manifest.json", "index.npy", *names[:3]]
    place = SlowBackend(
        stored / "store",
        threading.Event(),
        frozenset(object_key(data.version.files[file]["sha256"]) for file in first),
    )
    version = replace(data.version, store=Store(place, Cache(tmp_path, limit=1e9)))
    data = StoredData(version, 0, 4, window=2, workers=0, augment=AUGMENT, seed=0)
    data.start_at(epoch=0, batches_done=0)
    batches = iter(data.train_dataloader())
    next(batches)
    assert len(list((tmp_path / "objects").iterdir())) <= len(first)
    place.open.set()
    rest = list(batches)
    assert len(rest) == len(data.training) // 4 - 1


def test_data_that_earlier_code_prepared_is_one_error_with_the_remedy(tmp_path):
    folder = prepare(tmp_path / "data", leaves_of_a_store(0, 40), kind=None)
    version, _ = Store(FolderBackend(tmp_path / "store")).push("leaves", folder)
    with pytest.raises(UserError, match="leaves:1 was prepared by an earlier version of the code: prepare and push"):
        StoredData(version, 0, 4, window=1, workers=0, augment=AUGMENT, seed=0)
