"""Runs an ONNX file in stock onnxruntime: `MODEL INPUT.npy OUTPUT.npy`, all of its defaults left alone."""

import sys

import numpy
import onnxruntime

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
(given,) = session.get_inputs()
(output,) = session.run(None, {given.name: numpy.load(source)})
numpy.save(target, output)
