"""Every key of the config: type, range, unit, meaning and default; one class per section.

Values are checked against it before a command starts; `--help` and docs/config.md are written from it. The values that
people change are in conf/; a test compares the two.
"""

from omegaconf import DictConfig

from plant_pathology.core.keys import Several, YamlLabel, check_keys, key, section

# data.fold of a run that trains on the images of all folds; each further one has the next seed.
ON_ALL = ("all", *(f"all{number}" for number in range(2, 10)))
CPU = "cpu"
# Machines with GPUs that Kaggle lends to a kernel, as its client names them (November 2026). NvidiaTeslaT4 has two T4s;
# some others are for certain competitions, or for Kaggle's own staff (NvidiaTeslaT4Highmem). TPUs are left out, because
# torch reaches them only through torch_xla, which nothing here uses. NvidiaTeslaP100, TpuV38 and Tpu1VmV38 are retired.
GPUS = (
    *("NvidiaTeslaT4", "NvidiaTeslaT4Highmem", "NvidiaL4", "NvidiaL4X1"),
    *("NvidiaTeslaA100", "NvidiaH100", "NvidiaRtxPro6000"),
)
ACCELERATORS = (CPU, *GPUS)


@section()
class Paths:
    """Where things are. All are relative to the folder that a command is started in."""

    root: str = key(".", "the folder that holds all others but code")
    raw: str = key("${paths.root}/data/raw/${competition.name}", "the competition as Kaggle ships it; only read")
    code: str = key("competitions", "code of competitions for which their file is not enough")
    extra: str = key("${paths.root}/data/extra", "further images that train, with their tables")
    decoded: str = key("${paths.root}/data/decoded.sqlite", "cache of decoded images, for `prepare` alone")
    prepared: str = key("${paths.root}/data/prepared", "what `prepare` writes")
    pointer: str = key("${paths.root}/datastore.json", "names the version that was pushed last")
    runs: str = key("${paths.root}/runs", "a folder per training run")
    models: str = key("${paths.root}/models", "the bundle that predicts")
    kernels: str = key("${paths.root}/kernels", "what is pushed to Kaggle")
    reports: str = key("${paths.root}/reports", "tables, figures and pages for people")


@section()
class Prepare:
    """From raw images to shards of small ones."""

    image_size: int = key(256, "images are stored as squares of this side", low=8, high=4096, unit="pixels")
    encoding: str = key("jpeg", "how shards store images: compressed, or as plain pixels", choices=("jpeg", "raw"))
    quality: int = key(95, "quality of JPEG compression", low=1, high=100)
    shard_mb: float = key(4, "size of a shard", low=0.001, high=4096, unit="MB")
    folds: int = key(5, "number of folds; duplicates are in the same fold", low=2, high=1_000_000)
    duplicates: str = key(
        "keep",
        "rows of the same picture: keep all; drop all but the first, and all whose labels contradict each other; merge"
        " their labels into one row",
        choices=("keep", "drop", "merge"),
    )
    near_bits: int = key(
        40,
        "perceptual hashes (256 bits) that differ in at most so many bits are duplicates",
        low=0,
        high=255,
        unit="bits",
    )
    on_bad: str = key(
        "error", "a bad row or image: stop with an error, or skip and list it", choices=("error", "quarantine")
    )
    relabel: str | None = key(
        None, "reviewed copy of reports/relabel.csv, a file in paths.code: its accepted labels replace the table's"
    )
    extra: str | None = key(
        None,
        "csv in paths.extra with more images (columns image, labels and any groups), which train and never validate",
    )
    teacher: str | None = key(
        None, "copy of reports/predictions.npz in paths.extra: soft labels, which model.distill trains on"
    )
    workers: int | None = key(None, "processes that decode; null: one per core", low=1, high=1024)


@section()
class PseudoLabel:
    """Labels that the bundle gives to images which have none."""

    images: str | None = key(None, "folder of the images, in paths.extra")
    sure: float = key(0.95, "smallest probability of each answer; other images get no labels", low=0.5, high=1)


@section()
class Augment:
    """Random augmentation of training images: one affine map and one change of light per image and epoch."""

    flip: bool = key(True, "mirror at random, horizontally and vertically")
    rotate: float = key(20, "largest rotation either way", low=0, high=180, unit="degrees")
    crop: float = key(0.7, "smallest side of the random crop, as a share of the image's side", low=0.01, high=1)
    brightness: float = key(0.2, "brightness and contrast change by a factor within 1 ± this", low=0, high=1)


@section()
class Grow:
    """Progressive resizing: training images are small in the first epochs, which costs less."""

    start: float = key(1.0, "side in the first epoch, as a share of the full side; 1: always full", low=0.1, high=1)
    until: float = key(0.7, "share of the epochs after which images have their full side", low=0, high=1)


@section()
class Mix:
    """Images of a batch that are mixed with each other, and their targets likewise."""

    mixup: float = key(0, "share of the batches whose images are averaged in pairs", low=0, high=1)
    cutmix: float = key(0, "share of the batches whose images get a rectangle of another one", low=0, high=1)


@section()
class Data:
    """What a run trains and validates on."""

    ref: str | None = key(None, "version, such as plant-pathology:3; null: the one that datastore.json names")
    fold: int = key(
        0,
        "the fold that validates, the others train; all: every image trains and none validates, for the last training;"
        " all2: another such training, with the next seed",
        low=0,
        high=1_000_000,
        also=ON_ALL,
    )
    views: int = key(
        4,
        "test-time augmentation: predictions averaged over 1 view; 2: mirrored too; 4: mirrored both ways; 8:"
        " transposed too",
        choices=(1, 2, 4, 8),
    )
    batch_size: int = key(32, "images per step and device", low=1, high=65536)
    window: int = key(16, "shards whose images are shuffled together; shards come in random order", low=1, high=2**30)
    workers: int = key(0, "processes that load images; 0: the training process itself", low=0, high=1024)
    augment: Augment
    transforms: list = key(
        [],
        "transforms of torchvision.transforms.v2 before `augment`, each a name with its arguments, such as"
        " {RandAugment: {magnitude: 9}}",
    )
    mix: Mix
    grow: Grow


@section()
class Model:
    """The network and its optimizer."""

    name: str = key(..., "a timm model, hf-hub:<repository> or local-dir:<folder> of one; set by model=<name>")
    pretrained: bool = key(True, "start from its pretrained weights, downloaded if they are not on this machine")
    init_from: str | None = key(
        None,
        "start from the weights of a finished run, in each fold from that one of its runs which left it out; of another"
        " competition's run; or of a file; the head is new unless the labels are the same",
    )
    freeze: int = key(0, "epochs that train the head alone, before all layers are trained", low=0, high=1_000_000)
    drop_path: float = key(0, "share of the residual branches that a step leaves out", low=0, high=0.99)
    ema: float | None = key(
        None,
        "predict with a moving average of the weights, of which a step keeps this share",
        low=0,
        high=0.999999,
    )
    loss: str | None = key(
        None,
        "training loss; null: the one that fits the target and the metric",
        choices=(
            *("binary_cross_entropy", "focal", "asymmetric", "soft_f1"),
            *("cross_entropy", "squared_error", "absolute_error", "huber"),
        ),
    )
    smoothing: float = key(0, "label smoothing: how far targets move towards unknown", low=0, high=1)
    distill: float = key(
        0,
        "share of the teacher's predictions (prepare.teacher) in what is learned; the labels have the rest",
        low=0,
        high=1,
    )
    lr: float = key(1e-3, "peak learning rate: after warm-up to it, a cosine to zero", low=0, high=100)
    layer_decay: float = key(
        1.0, "learning rate of a layer as a share of that of the next layer towards the head", low=0.01, high=1
    )
    weight_decay: float = key(0.05, "weight decay of AdamW", low=0, high=100)
    warmup: float = key(0.1, "share of all steps that warm up", low=0, high=0.99)
    schedule: str = key(
        "step", "cosine by step, after the warm-up; or by epoch, without warm-up", choices=("step", "epoch")
    )
    double_sigmoid: bool = key(False, "apply a sigmoid before a loss that has one, the mistake of recipe=original")


@section()
class Trainer:
    """Arguments of Lightning's Trainer."""

    max_epochs: int = key(20, "epochs of a run", low=1, high=1_000_000)
    accelerator: str = key(
        "auto", "what trains; auto: the best there is", choices=("auto", "cpu", "gpu", "cuda", "mps")
    )
    devices: int = key(
        1,
        "devices of one machine that train a run together, each data.batch_size images per step; a sweep with 1 trains"
        " as many runs at once as there are",
        low=1,
        high=64,
    )
    precision: str = key("32-true", "number format", choices=("32-true", "16-mixed", "bf16-mixed"))
    gradient_clip_val: float | None = key(1.0, "largest norm of the gradient; null: not clipped", low=0, high=1e9)


@section()
class MoreOfTrainer:
    """Further arguments of Lightning's Trainer, which `+trainer.<key>=<value>` passes on."""

    gradient_clip_algorithm: str | None = key(
        None, "what gradient_clip_val limits: the norm of the whole gradient; or each value", choices=("norm", "value")
    )
    deterministic: bool | None = key(None, "only use algorithms of torch that give the same digits each time")
    benchmark: bool | None = key(None, "let cuDNN choose the fastest algorithms, whose digits may differ each time")
    detect_anomaly: bool = key(False, "stop at the operation whose gradient is not a number; slow")
    inference_mode: bool = key(True, "validate in torch's inference mode; false: without gradients only")


_WHOLE = "a run trains and validates on all images of its folds in each epoch; prepare.folds divides them otherwise"
_EPOCHS = "a run validates after each epoch: its best epoch, checkpoints, stopping rules and curves need that"
_LENGTH = "the learning rate falls to zero over trainer.max_epochs; set that, or a rule of `stop:`"
_DEVICE = "a run trains on trainer.devices devices of one machine, each with a copy of the network"
_OURS = "the training sets it itself"
REFUSED_OF_TRAINER = {
    "strategy": _DEVICE,
    "num_nodes": _DEVICE,
    "sync_batchnorm": "each device normalizes by its own part of the batch",
    "use_distributed_sampler": _DEVICE,
    "fast_dev_run": f"{_WHOLE}; for a short trial set trainer.max_epochs=1",
    "limit_train_batches": _WHOLE,
    "limit_val_batches": _WHOLE,
    "limit_test_batches": "a run has no test images; the kernel predicts them",
    "limit_predict_batches": "a run has no test images; the kernel predicts them",
    "overfit_batches": _WHOLE,
    "reload_dataloaders_every_n_epochs": "the order of images follows from seed and epoch alone",
    "val_check_interval": _EPOCHS,
    "check_val_every_n_epoch": _EPOCHS,
    "min_epochs": _LENGTH,
    "max_steps": _LENGTH,
    "min_steps": _LENGTH,
    "max_time": _LENGTH,
    "accumulate_grad_batches": "an interrupted run could not continue with the same digits; raise data.batch_size",
    "logger": "`logger=` on the command line chooses it",
    "default_root_dir": "paths.runs is where runs are",
    "enable_checkpointing": "without checkpoints an interrupted run could not continue, and there were no best weights",
    "num_sanity_val_steps": _OURS,
    "log_every_n_steps": "curves have a point for each epoch",
    "callbacks": _OURS,
    "plugins": _OURS,
    "profiler": _OURS,
    "enable_progress_bar": _OURS,
    "enable_model_summary": _OURS,
    "enable_autolog_hparams": _OURS,
    "barebones": "it turns off checkpoints and validation scores",
    "model_registry": "weights stay in the run's folder and in the store",
}


@section()
class Stop:
    """Rules that end a run early; a stopped run stays on the leaderboard."""

    divergence: float | None = key(
        None, "end a run whose training loss is above this; one that is not finite fails it", low=0, high=1e9
    )
    keep: float = key(
        100,
        "end a run that is not among the best so many percent at the same epoch; 50: median rule",
        low=0,
        high=100,
        unit="%",
    )
    siblings: int = key(3, "runs that must have reached the epoch before the rule holds", low=1, high=1_000_000)
    after: float = key(0.3, "share of the epochs before the rule holds", low=0, high=1)


@section()
class Cost:
    """What machines cost."""

    usd_per_hour: float = key(
        0, "price of the machine that runs the command; spot machines bring their own", low=0, high=1e6, unit="$"
    )
    budget_usd: float | None = key(
        None, "no run is started that could exceed it; null: no limit", low=0, high=1e9, unit="$"
    )


@section()
class Train:
    """What a sweep trains of each configuration."""

    folds: int = key(1, "number of folds: data.fold is 0, 1, … in turn", low=1, high=1_000_000)
    last: int = key(
        0,
        "trainings of each configuration on all images (data.fold=all), whose networks predict",
        low=0,
        high=len(ON_ALL),
    )


@section()
class Sweep:
    """What `python -m plant_pathology.train -m` tries."""

    model: Several = key("resnet18,resnet34,resnet50", "timm models")
    lr: Several = key("1e-4,5e-4,1e-3", "learning rates")


@section()
class Select:
    """What the bundle may contain, and its kernel spend."""

    decision: str | None = key(
        None,
        "rule that turns predictions into answers; null: the one with the best score of those that fit the metric",
        choices=("likeliest", "cuts", "thresholds", "expected_f1", "sigmoid", "softmax"),
    )
    sweep: int | None = key(
        None, "which sweep of paths.runs; null: the one that started last", low=1, high=1_000_000_000
    )
    folds: bool = key(
        True,
        "the networks that left out a fold predict, too, where others of the same settings were trained on all images",
    )
    networks: int = key(10, "networks of the ensemble", low=1, high=1000)
    megabytes: float = key(1000, "size of all weights", low=0, high=1e6, unit="MB")
    seconds: float | None = key(
        None,
        "prediction time per image, estimated from training; null: what the time limit of package.accelerator leaves",
        low=0,
        high=1e6,
        unit="s",
    )


@section()
class Package:
    """What is pushed to Kaggle."""

    owner: str = key("KAGGLE_USERNAME", "your Kaggle user name, as in kaggle.com/<name>")
    dataset: str | None = key(
        None, "name of the dataset; null: <competition>-bundle, in lower case, shortened to 50 characters"
    )
    kernel: str | None = key(
        None, "name of the kernel; null: <competition>-submission, in lower case, shortened to 50 characters"
    )
    kernel_type: str = key(
        "notebook", "what the kernel is; this competition accepts notebooks", choices=("notebook", "script")
    )
    accelerator: str = key(
        "NvidiaTeslaT4",
        "machine of the kernel: cpu, or Kaggle's name of one with GPUs; NvidiaTeslaT4 has two T4s",
        choices=ACCELERATORS,
    )
    docker_image: str | None = key(
        None, "image that the kernel runs on, as Kaggle shows it beside a kernel's version; null: Kaggle's latest"
    )
    licence: str = key("other", "license of the dataset, by Kaggle's name for it")


@section()
class Rehearse:
    """How the kernel is rehearsed, and Kaggle's limits."""

    test_images: str | None = key(None, "folder to use as the hidden test set; null: made from training images")
    solution: str | None = key(None, "csv like train.csv with the labels of test_images: scores the rehearsal")
    images: int = key(2000, "size of the hidden test set that is made", low=100, high=1_000_000, unit="images")
    strict: bool = key(True, "exit with an error when the kernel does not pass; dvc.yaml leaves that to its last stage")
    hidden_images: int = key(5000, "size of Kaggle's hidden test set", low=1, high=10_000_000, unit="images")
    margin: float = key(2.0, "safety factor: estimated time × margin must not exceed timeout_s", low=1, high=100)
    speedup: float = key(1.0, "how many times faster Kaggle's machine is than this one's CPU", low=0.01, high=1000)
    timeout_s: float | None = key(
        None,
        "limit on a kernel's time; null: competition.submit.cpu_hours or gpu_hours, as package.accelerator says",
        low=1,
        high=1e6,
        unit="s",
    )
    python: str | None = key(
        None,
        "interpreter of a virtual environment that has the versions of Kaggle's image, as kernel/kaggle_image.txt lists"
        " them: the kernel is rehearsed with it; null: with this one and the versions installed here",
    )
    cores: int = key(4, "cores of Kaggle's machine", low=1, high=1024)
    memory_gb: float = key(29, "memory of Kaggle's machine", low=0.1, high=10_000, unit="GB")
    disk_gb: float = key(20, "what /kaggle/working may hold", low=0.001, high=10_000, unit="GB")


@section()
class Submit:
    """How long and how often Kaggle is asked."""

    dry_run: bool = key(False, "print what would be done, and do nothing")
    poll_s: float = key(20, "pause between two queries of a state", low=0.001, high=3600, unit="s")
    dataset_timeout_s: float = key(3600, "time limit until the dataset is ready", low=0, high=1e6, unit="s")
    kernel_timeout_s: float = key(43200, "time limit until the kernel has run", low=0, high=1e6, unit="s")
    score_timeout_s: float = key(43200, "time limit until the submission is scored", low=0, high=1e6, unit="s")
    settle_s: float = key(120, "time limit until Kaggle lists what it was sent", low=0, high=1e6, unit="s")
    request_timeout_s: float = key(60, "time limit of one request", low=0, high=1e6, unit="s")
    retries: int = key(6, "retries of a request that gets no answer, or 429 or 5xx", low=0, high=100)
    backoff_s: float = key(2, "pause before the second retry; doubles with each", low=0, high=1e6, unit="s")
    daily_limit: int = key(5, "submissions per day, where Kaggle does not report the limit", low=1, high=100)


@section()
class Store:
    """The datastore: versions of the prepared data, and runs. Set by store=file or store=s3."""

    uri: str = key(..., "file://<folder> or s3://<bucket>/<prefix>")
    name: str = key("plant-pathology", "name of the versions that are pushed")
    note: str | None = key("", "one line that is stored with a version")
    endpoint_url: str | None = key(None, "an S3 server other than Amazon's")
    sse: str | None = key(None, "server-side encryption of S3: AES256 or aws:kms")
    timeout_s: float = key(30, "how long S3 may be silent before a request is repeated", low=0.001, high=1e6, unit="s")
    cache: str = key("~/.cache/plant_pathology", "local cache of s3:// stores; all runs on a machine share it")
    cache_gb: float = key(
        50, "size of the cache; what was not used longest is deleted first", low=0, high=1e9, unit="GB"
    )
    runs: bool = key(False, "store runs too: checkpoints, metrics, results; true by store=s3")
    into: str | None = key(None, "folder that `datastore pull` copies to")


@section()
class Logger:
    """Where a run's curves go besides metrics.csv. Set by logger=csv, tensorboard, mlflow or wandb."""

    name: str = key("tensorboard", "the logger", choices=("csv", "tensorboard", "mlflow", "wandb"))
    tracking_uri: str | None = key(None, "mlflow: a server or a database file")
    experiment: str | None = key(None, "mlflow: name of the experiment")
    project: str | None = key(None, "wandb: name of the project")
    entity: str | None = key(None, "wandb: the team; null: your own account")
    offline: bool = key(True, "wandb: log into the run's folder, for `wandb sync`")


@section()
class TrainFiles:
    """The training images and their table."""

    table: str | None = key(
        None, "csv or COCO json; null: there is none, and the {fields} of `files` are the columns of the table"
    )
    files: str = key(..., "path of an image, with the {columns} of the table in it, such as train/{id}.jpg")


@section()
class TestFiles:
    """The form that Kaggle gives for a submission, and the test images."""

    form: str = key("sample_submission.csv", "Kaggle's example of a submission")
    files: str = key(..., "path of an image, with the {columns} of the form, or of `table`, in it")
    id: str | None = key(None, "column of the form with the ids; null: the first one with a name")
    table: str | None = key(None, "csv or json that says more about an id of the form, such as the name of its file")
    key: str | None = key(None, "column of `table` with the ids; null: named as in the form, or id, or image_id")


@section()
class Target:
    """What is predicted of an image."""

    kind: str = key(
        ...,
        "one label of several; several labels at once; ordinal: one of labels that have an order; number",
        choices=("one", "several", "ordinal", "number"),
    )
    column: str | None = key(None, "column of the table with it; null: a column of 0 and 1 for each label")
    columns: list | None = key(None, "these columns; null: those of the form that the table has too")
    separator: str = key(" ", "several: text between two labels in a cell of `column`")
    labels: list | None = key(None, "all labels, in their order; null: those of the table, sorted")


@section()
class Answer:
    """What a submission says about an image."""

    as_: str = key(
        ...,
        "a label; labels with a separator; ranking: the likeliest labels; probability of one label; columns: one for"
        " each label; number",
        choices=("label", "labels", "ranking", "probability", "columns", "number"),
    )
    by: str = key(
        "kernel", "what Kaggle takes: a kernel, which it runs; or the file that it writes", choices=("kernel", "file")
    )
    cpu_hours: float = key(9, "Kaggle's limit on a kernel's time on a CPU", low=0.001, high=100, unit="h")
    gpu_hours: float = key(9, "Kaggle's limit on a kernel's time on a GPU", low=0.001, high=100, unit="h")
    separator: str = key(" ", "text between two labels in a cell")
    positive: YamlLabel | None = key(None, "the label whose probability is asked for; null: the last of two, such as 1")
    low: float | None = key(
        None, "number: no answer is below it; null: the smallest of the table", low=-1e12, high=1e12
    )
    high: float | None = key(
        None, "number: no answer is above it; null: the largest of the table", low=-1e12, high=1e12
    )


@section()
class Competition:
    """What changes from one competition to the next. Set by competition=<name>."""

    name: str = key(..., "Kaggle's name of the competition, as in its address")
    title: str = key(..., "title for figures and pages")
    synthetic: bool = key(False, "drawn by `sample`, not downloaded")
    metric: str = key(..., "what Kaggle scores by: accuracy, sample_f1, … as in docs/your-competition.md")
    groups: list = key([], "columns of the table that name a patient, a place …, none of which may be in two folds")
    train: TrainFiles
    test: TestFiles
    target: Target
    submit: Answer


@section()
class Watch:
    """How `monitor watch` looks."""

    seconds: float = key(2, "pause between two looks", low=0.01, high=3600, unit="s")


@section()
class Config:
    """The whole config."""

    seed: int = key(2021, "seed of folds, shuffling, augmentation and weights", low=0, high=2**32 - 1)
    threads: int | None = key(None, "CPU threads of a run; null: the run's share of the cores", low=1, high=1024)
    name: str = key("${model.name}-lr${model.lr}", "name of a run; a hash of all that decides its result is appended")
    run: str | None = key(
        None,
        "for `monitor stop` and `monitor continue`: the beginning of the names of runs of the sweep (`select.sweep`, or"
        " the last one), or the whole name of any run",
    )
    recipe: str = key("ours", "the file of conf/recipe/ in use, for the record")
    prepare: Prepare
    pseudo_label: PseudoLabel
    data: Data
    model: Model
    trainer: Trainer
    stop: Stop
    cost: Cost
    train: Train
    sweep: Sweep
    select: Select
    package: Package
    rehearse: Rehearse
    submit: Submit
    store: Store
    logger: Logger
    competition: Competition
    watch: Watch
    paths: Paths


PARTIAL = ("competition.", "logger.")  # whose files set what they need
MORE = {"trainer": MoreOfTrainer}
REFUSED = {f"trainer.{name}": reason for name, reason in REFUSED_OF_TRAINER.items()}


def check_config(cfg: DictConfig) -> None:
    """Check a composed config against `Config`.

    Raises:
        UserError: naming the key, its value and what it may be.
    """
    check_keys(cfg, Config, MORE, REFUSED, PARTIAL)
