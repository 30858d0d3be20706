//! The number of threads inside an operation: a setting of the process, so in a process of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{sync::mpsc, thread};

use openclip_core::{
    Backend, HostTensor, Precision,
    backend::{Activation, DeviceSpec, Eager},
};
use openclip_tch::{TchBackend, set_threads};

#[test]
fn the_number_of_threads_reaches_every_caller() {
    let backend = TchBackend::new(DeviceSpec::Cpu, Precision::F32).unwrap();
    // What a thread finds after it has computed something.
    let compute = move || {
        let x = backend.upload(&HostTensor::zeros([4])).unwrap();
        backend.activate(&x, Activation::Relu).unwrap();
        tch::get_num_threads()
    };
    set_threads(0);
    assert_eq!(tch::get_num_threads(), 1);
    let (to_caller, told) = mpsc::channel();
    let (to_main, found) = mpsc::channel();
    let caller = thread::spawn(move || {
        to_main.send(compute()).unwrap();
        told.recv().unwrap();
        to_main.send(compute()).unwrap();
    });
    assert_eq!(found.recv().unwrap(), 1);
    set_threads(3);
    to_caller.send(()).unwrap();
    assert_eq!(found.recv().unwrap(), 3);
    caller.join().unwrap();
}
