"""Mistakes that mypy reports. The line of each ends with the code of its error."""

import numpy as np

import mmestim
from mmestim import JointClassifier, LateFusionClassifier, ModalityGapAnalyzer, UDIClassifier, VoiceEditDetector
from mmestim.balancers import MLA
from mmestim.voice import AudioCorpus, EditSimulator, scan_files
from mmestim.voice.formats import read_segments

X, y = np.ones((9, 10)), np.zeros(9)

# Values of parameters.
LateFusionClassifier(fusion="sums")  # arg-type
JointClassifier(fusion="weighted")  # arg-type
JointClassifier(encoder="perceptron")  # arg-type
JointClassifier(encoder={"audio": "perceptron"})  # dict-item
JointClassifier(optimizer="adam")  # arg-type
JointClassifier(monitor="accuracy")  # arg-type
JointClassifier(precision="float16")  # arg-type
JointClassifier(balancer="OGM")  # arg-type
JointClassifier(lr="automatic")  # arg-type
JointClassifier(lr={"audio": "fast"})  # dict-item
JointClassifier(cv="5")  # arg-type
JointClassifier(class_weight="equal")  # arg-type
JointClassifier(random_state="seed")  # arg-type
JointClassifier(device=0)  # arg-type
UDIClassifier(guidance="adaptive")  # arg-type
UDIClassifier(follower_init="cold")  # arg-type
MLA("orthogonal")  # arg-type
VoiceEditDetector("cut")  # arg-type
VoiceEditDetector(model="wav2vec2")  # arg-type
EditSimulator(order="shuffled")  # arg-type
EditSimulator({"echo": "test"})  # dict-item
AudioCorpus("speech", on_error="ignore")  # arg-type
read_segments("labels.txt", "praat")  # arg-type

# Names of parameters.
UDIClassifier(n_epochs=5)  # call-arg
LateFusionClassifier(guidance="aligned")  # call-arg
VoiceEditDetector(windows=1.2)  # call-arg
UDIClassifier().fit(X, y, weights=y)  # call-arg
scan_files(VoiceEditDetector(), ["speech"], channel="each")  # call-arg

# Names and types of attributes and methods.
mmestim.UDIEstimator()  # attr-defined
UDIClassifier().anchor_.mean()  # attr-defined
VoiceEditDetector.from_pretrained().analyze(["clip.wav"])[0].probability.keys()  # attr-defined

# Any name is accepted as long as mypy does not know the classes of scikit-learn.
UDIClassifier().anchors_.upper()  # attr-defined, with scikit-learn
LateFusionClassifier().anchor_.upper()  # attr-defined, with scikit-learn
ModalityGapAnalyzer().mean_.round()  # attr-defined, with scikit-learn
VoiceEditDetector().threshold_.round()  # attr-defined, with scikit-learn
JointClassifier().predict_probability(X)  # attr-defined, with scikit-learn
