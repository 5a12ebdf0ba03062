"""Sections of the docstrings that the classifiers share."""

from __future__ import annotations

SHARED_SECTIONS = {
    "modalities_parameter": """\
modalities : dict of str to slice, list of int or list of str, default=None
    Columns of `X` in each modality: a slice, column numbers, or column names of a DataFrame.
    Every column belongs to exactly one modality. `None` treats `X` as a single modality named
    ``x``. An `X` that is a dict of arrays brings its own names. The blocks of a list, tuple or
    Dataset are named ``x0``, ``x1``, and so on.""",
    "late_fusion_parameter": """\
fusion : {'weighted', 'sum', 'mean'}, default='weighted'
    Fusion of the modalities that a row has. ``'weighted'`` adds their log-probabilities, each
    multiplied by a weight of at least 0 (see `fusion_weights_`). ``'sum'`` adds their logits, as in
    most papers; ``'mean'`` averages their probabilities.
ensemble : bool, default=True
    Whether the networks of the folds together are the branch of a modality. With False, one network
    per modality is trained again on all rows, for as many epochs as were best for the folds. It
    predicts faster.
store_oof : bool, default=False
    Whether to store `oof_proba_`.""",
    "joint_fusion_parameter": """\
fusion : {'concat', 'sum', 'gated', 'film'}, default='concat'
    Fusion head, which maps the features z to logits. ``'concat'`` is one linear layer of all
    features; ``'sum'`` is the sum of one linear layer per modality; ``'gated'`` is a linear layer
    of sigmoid(A z_1) * (B z_2); ``'film'`` is a linear layer of gamma(z_1) * z_2 + beta(z_1).
    The last two require two modalities, of which the first one listed gates the second.""",
    "training_parameters": """\
shapes : dict of str to tuple of int, default=None
    Shape of one sample of each modality that is not a plain vector, such as
    ``{"image": (28, 28)}``. A single axis, such as ``(16000,)``, marks a signal. An `X` that is
    a dict of arrays brings its own shapes. Channels come first. Images of shape (height, width,
    channels) with 1, 3 or 4 channels and a larger height and width are recognised, and their
    channels are moved to the front. A shape whose first and last axes may both be channels, such
    as (3, 40, 3), is an error for a dict of arrays; its shape here is that with channels first.
    For another meaning of three such axes, permute them in an encoder of your own.
encoder : {'auto', 'tabular', 'mlp', 'linear', 'conv1d', 'conv2d', 'resnet18', 'text'}, nn.Module, """
    "class, callable or dict, default='auto'\n"
    """\
    Network that maps a modality's block to a feature vector. ``'auto'`` chooses by the shape:
    ``'tabular'`` for vectors, ``'conv1d'`` for signals, ``'conv2d'`` for two or three axes.
    ``'tabular'`` adds an affine map and a perceptron, with a periodic embedding of up to 128
    columns; ``'mlp'`` is a perceptron of two layers, as in most papers; ``'linear'`` is one affine
    map; ``'resnet18'`` is the network of most papers for images, spectrograms, and frames of shape
    (frames, channels, height, width). All of them standardise their input with statistics of the
    training rows; ``'tabular'`` keeps the relative spread of the columns, up to a factor of 4.
    ``'text'`` averages trained vectors of token ids below 32768, with 0 for padding. A class or
    factory is called with `input_shape` and `embedding_dim` if it accepts them, and must map a
    batch to (n_samples, n_features); `functools.partial` sets its other parameters. An instance is
    copied with its weights and never trained in place. `mmestim.encoders.Augmented` adds random
    changes of the training rows to any of these, and `mmestim.encoders.Wrapped` reads a tensor from
    the output object of a module. A dict gives one of these per modality; modalities that it omits
    get ``'auto'``. An encoder with parameters of which none requires a gradient is frozen: it is
    built once and runs in eval mode, and its features are computed once per fit, unless it draws
    random numbers. Encoders receive float32. One with an attribute `input_dtype` receives this type
    instead, such as ``torch.int64`` for `torch.nn.Embedding`; the values must then be integers below
    2**24, up to which float32 is exact.
embedding_dim : int, default=64
    Length of the feature vector of built-in encoders.
cv : 'auto', int, splitter, list of splits or None, default='auto'
    Cross-fitting. With an int K, K networks are trained for each one that would be trained without
    it. Each leaves out another fold of the rows, and their mean log-probability is the prediction.
    Folds are stratified by class and by the modalities that a row has, and are of whole groups if
    `fit` gets `groups`. A scikit-learn splitter, or a list of pairs of row numbers, splits all rows
    of X and must hold out every row once. `None` trains one network, with the hold-out of
    `validation_fraction`. ``'auto'`` is 5 folds for at most 5000 rows, and None for more. Late fusion
    of three real sets with 500 to 2000 rows had a lower log-loss with folds on each, for two to three
    times the time; the limit beyond that is our choice.
optimizer : {'adamw', 'sgd'} or torch.optim class, default='adamw'
    ``'sgd'`` has momentum 0.9, the protocol of most papers. Balancing methods that scale gradients
    were published with it, and change little under AdamW, whose steps do not depend on the size of
    gradients. A class, or a `functools.partial` of one, is called with the parameters and `lr`. It
    also gets `weight_decay` if it accepts one and a partial has not set it.
lr : float, 'auto' or dict, default='auto'
    Learning rate. ``'auto'`` is 0.002 for AdamW, chosen on validation rows of vectors, and 0.01 for
    other optimizers. A dict gives the rates of encoders by modality. Its key ``"head"`` stands for
    all layers outside the encoders: the heads of modalities and the fusion head. What it omits gets
    ``'auto'``. A rate has no effect on a frozen encoder.
lr_schedule : {'auto', 'step', 'cosine'} or None, default='auto'
    Schedule of the learning rate: ``'step'`` is one tenth from 70 % of `max_epochs` on, ``'cosine'``
    a half cosine that reaches zero at `max_epochs`, None constant. ``'auto'`` is ``'cosine'`` for
    AdamW and ``'step'`` for other optimizers.
weight_decay : float or 'auto', default='auto'
    L2 penalty of the weights or, for AdamW, their decay by ``lr * weight_decay`` in every step.
    ``'auto'`` is 1 for AdamW and 1e-4 for other optimizers that accept one.
max_grad_norm : float or None, default=None
    Maximum norm of the gradient; longer gradients are scaled down to it.
batch_size : int, default=64
    Rows per training step, of all processes together. A last batch of one row is merged into the
    one before.
accumulate : int, default=1
    Number of parts in which encoders read a training batch, to save memory: activations are held
    for one part at a time, and are computed again in the backward pass. Losses and balancing
    methods have the features of the whole batch, so the gradient is that of the batch. A part has
    two rows or more. BatchNorm layers take their statistics from each part, as with any
    accumulation of gradients. It requires ``compile=False``, and another device than ``'mps'``.
max_epochs : int, default=100
    Maximum number of epochs of each training stage.
early_stopping : bool, default=True
    Whether to keep the epoch that is best on held-out rows by `monitor`, and to stop when it has not
    improved for `n_iter_no_change` epochs. The held-out rows are those of the folds, or of
    `validation_fraction` without folds. If no row can be held out, the training rows validate.
    With False, training lasts for `max_epochs`, and no row is held out without folds.
validation_fraction : float, default=0.1
    Fraction of the training rows to hold out if there are no folds, stratified by class. If `fit`
    gets `groups`, whole groups are held out.
n_iter_no_change : int, default=20
    Number of epochs without improvement before training stops.
monitor : {'valid_loss', 'valid_accuracy'}, default='valid_loss'
    Score of the held-out rows that selects the epoch. The cross-entropy is averaged over the last
    three epochs if there are fewer than 200 such rows (our choice). Papers select by accuracy;
    ties are broken by the loss then, and a warning follows if the loss still fell when training
    stopped.
class_weight : dict, 'balanced' or None, default=None
    Weight of each class in the losses and validation scores. ``'balanced'`` weighs classes
    inversely to their numbers of rows.
precision : {'float32', 'bf16'}, default='float32'
    Arithmetic of encoders and heads. Losses, scores and outputs are always float32.
compile : bool, default=False
    Whether to train through `torch.compile`, which requires a C++ compiler on the CPU.
device : str or torch.device, default='auto'
    Device for training and prediction: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ``'mps'``, or
    ``'auto'`` for the first available GPU, or else the CPU. Under ``torchrun``, ``'auto'`` and
    ``'cuda'`` are the GPU of the process.
max_memory : float, default=1024
    Memory in MiB for blocks that are kept as float32 tensors on the device, smallest blocks
    first. Blocks that do not fit, and memory maps and sparse matrices of any size, are read batch
    by batch. Features of a frozen encoder take the place of its block; if they do not fit, they
    are kept in a temporary file.
callbacks : list of skorch callbacks, default=None
    Callbacks of the skorch net of every training stage. Their scores are printed with ``verbose=2``
    and are not in `history_`. The net's history holds losses and scores per epoch, not per batch:
    `EpochScoring` works with its caching alone, and `BatchScoring` and `PassthroughScoring` are
    refused.
    A callback that raises KeyboardInterrupt at the end of an epoch ends the stage.
checkpoint : str, path-like or None, default=None
    Folder for the state of training; it is created if missing. The state is written after an
    epoch, at most once a second: a fit that is killed loses the epochs of a second, one that
    ends by Ctrl-C or an error loses none. After an interrupted `fit`, the next one with the
    same data and parameters resumes, and ends with the weights of an uninterrupted fit. It
    requires an int as `random_state`. Finished stages are not trained again. The folder grows
    by one network per stage and can be deleted at any time. Callbacks run in the remaining
    epochs only. Their state is resumed if they are skorch's schedulers, stoppers or scorers,
    or have `state_dict` and `load_state_dict`. Parameters and buffers of encoders are resumed;
    plain attributes are not.
verbose : int, default=0
    0 is silent, 1 shows a progress bar per training stage, 2 prints a line per epoch. Both print
    the number of validation rows, and the images whose channels are moved.
random_state : int, RandomState instance or None, default=None
    Seed of initial weights, shuffling and the inner split. Torch's global generators are not
    changed. Results repeat exactly for the same seed, device and number of threads.""",
    "data_attributes": """\
classes_ : ndarray of shape (n_classes,)
    Class labels.
n_features_in_ : int
    Number of columns of `X`.
feature_names_in_ : ndarray of shape (`n_features_in_`,)
    Names of the columns of `X`. Defined only if all of them are strings.
modalities_ : dict of str to ndarray of int
    Column numbers of each modality.
shapes_ : dict of str to tuple of int
    Shapes of one sample, from `shapes` or from a dict of arrays, with channels first.
offsets_ : dict of str to ndarray
    Values that are subtracted from a modality before it is converted to float32, of the shape of
    one sample. Only modalities with a column whose offset is not 0 are listed.
module_ : torch.nn.Module
    Trained network, in eval mode on `device_`. It maps a dict with one tensor per modality, of rows
    that have all of them, to fused logits and the features of each modality. Tensors are float32,
    of the shapes in `shapes_`, after the subtraction of `offsets_` in float64. `torch.export` takes
    this network rather than the classifier; `mmestim.to_onnx` writes ONNX.
device_ : str
    Device of the network.""",
    "history_attributes": """\
history_ : list of dict
    One entry per epoch: stage, modality, fold, epoch, train_loss, lr, dur (seconds) and, with early
    stopping, valid_loss and valid_accuracy. Networks of folds that train in step share an entry, with
    means over the folds and None as fold. Without folds it is None too. If `lr` is a dict, the entry
    has the rate of the heads.
n_iter_ : int
    Total number of epochs of all stages.
n_networks_ : int
    Number of networks of each modality: the number of folds, or 1.""",
    "fusion_attributes": """\
branch_scores_ : dict of str to float
    Accuracy of each modality trained alone, on rows that its network has not seen: out of fold, or on
    the rows of the hold-out. Without such rows, accuracy on the training rows.
fusion_weights_ : dict of str to float
    Weight of each modality in the fused prediction. For ``fusion='weighted'`` the weights minimise the
    cross-entropy on n held-out rows, with targets smoothed by 1 / (n + 1) and a weak pull towards 1;
    otherwise they are 1. A modality of which no row is held out has the weight 0, with a warning. A row
    whose modalities all have the weight 0 is predicted as if they had the weight 1.
oof_proba_ : dict of str to ndarray of shape (n_samples, n_classes)
    Probabilities per modality from a network that was not trained on the row. NaN in rows that no
    network has left out, lack the modality, or are the only ones of their class. Only
    with ``store_oof=True``.""",
    "absent_modality_notes": """\
A modality is absent from a row if its whole block is missing: NaN, None, pd.NA, NaT or masked.
The row is trained and predicted with the modalities that it has. Tools that permute single
columns, such as `permutation_importance`, create blocks that are partly NaN, which are rejected:
impute first. Tools that drop columns do not update modalities given by position.
`BaggingClassifier` also drops column names, so it requires all features or a single modality.

Encoders receive float32. A column gets an offset if float32 could not tell its values apart: if
its median exceeds 2^16 times the median distance of the values that differ from it, among 256
training rows. Other columns are unchanged, whole numbers up to 2^24 in any case. Dates are
converted to seconds since 1970.

`X` may be an array, DataFrame, nested list, tensor, masked array or sparse matrix; a dict,
`SliceDict`, list or tuple of these, one per modality; or a map-style Dataset, whose items are
dicts or tuples of arrays. Sparse matrices are made dense batch by batch. Targets in the items of
a Dataset, which are int, bool or str, are left out: pass them as `y`.""",
}
