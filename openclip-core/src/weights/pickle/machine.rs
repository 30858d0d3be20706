//! The machine that carries out a pickle's instructions on values of [`Value`]'s kinds.
//!
//! Its memory is bounded by the pickle's size, and the work by [`MAX_WORK`], whatever the instructions are.

use std::{collections::HashMap, rc::Rc};

use super::{
    globals::{self, ElementType, Global},
    opcodes::{Op, Ops},
    value::{Fault, Id, StorageRef, TensorRef, Value},
};

/// Values that a pickle may make, including those copied. A checkpoint of the largest published models with
/// optimizer state makes fewer than 200,000.
const MAX_WORK: usize = 4_000_000;

/// PyTorch's own limit on the dimensions of a tensor.
const MAX_DIMS: usize = 64;

/// The values that a pickle made.
pub(super) struct Machine<'p> {
    values: Vec<Value<'p>>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks that are open.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    work: usize,
}

fn malformed<T>(message: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Malformed(message.into()))
}

impl<'p> Machine<'p> {
    /// Carries out `pickle` and returns the machine with the value that the pickle stands for.
    pub(super) fn run(pickle: &'p [u8]) -> Result<(Self, Id), Fault> {
        let mut machine =
            Self { values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), work: 0 };
        let mut ops = Ops::new(pickle);
        loop {
            let at = ops.position();
            let op = ops.next()?;
            if op == Op::Stop {
                let top = machine.pop()?;
                return Ok((machine, top));
            }
            machine.step(op).map_err(|fault| match fault {
                Fault::Malformed(message) => {
                    Fault::Malformed(format!("{message} (at byte {at} of its pickle)"))
                }
                refused => refused,
            })?;
        }
    }

    /// The value of `id`.
    pub(super) fn get(&self, id: Id) -> &Value<'p> {
        self.values.get(id.0 as usize).unwrap_or(&Value::Inert)
    }

    fn get_mut(&mut self, id: Id) -> Result<&mut Value<'p>, Fault> {
        self.values
            .get_mut(id.0 as usize)
            .ok_or_else(|| Fault::Malformed("its pickle refers to a value that it doesn't have".into()))
    }

    fn spend(&mut self, work: usize) -> Result<(), Fault> {
        self.work = self.work.saturating_add(work);
        if self.work > MAX_WORK {
            return malformed("its pickle makes far more values than a checkpoint needs; it is not one");
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'p>) -> Result<(), Fault> {
        self.spend(1)?;
        // MAX_WORK is far below the range of an index.
        let id = Id(self.values.len() as u32);
        self.values.push(value);
        self.stack.push(id);
        Ok(())
    }

    /// The lowest height to which an instruction may pop: that of the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        if self.stack.len() <= self.floor() {
            return malformed("its pickle takes a value from an empty stack; the file is damaged");
        }
        self.stack.pop().ok_or_else(|| Fault::Malformed("its pickle's stack is empty".into()))
    }

    fn top(&self) -> Result<Id, Fault> {
        match self.stack.last() {
            Some(&top) if self.stack.len() > self.floor() => Ok(top),
            _ => malformed("its pickle refers to an empty stack; the file is damaged"),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Fault> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => malformed("its pickle has no mark where it needs one; the file is damaged"),
        }
    }

    fn pop_str(&mut self) -> Result<String, Fault> {
        let id = self.pop()?;
        match self.get(id) {
            Value::Str(text) => Ok(text.to_string()),
            _ => {
                malformed("its pickle names a Python object by something else than text; the file is damaged")
            }
        }
    }

    fn step(&mut self, op: Op<'p>) -> Result<(), Fault> {
        match op {
            Op::Skip | Op::Stop => {}
            Op::Mark => {
                self.spend(1)?;
                self.marks.push(self.stack.len());
            }
            Op::Pop => {
                // Popping right after a mark takes the mark.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            Op::PopMark => drop(self.pop_to_mark()?),
            Op::Dup => self.repeat(self.top()?)?,
            Op::Inert => self.push(Value::Inert)?,
            Op::Int(value) => self.push(Value::Int(value))?,
            Op::Str(text) => self.push(Value::Str(text))?,
            Op::EmptyTuple => self.push(Value::Tuple(Vec::new()))?,
            Op::TupleOf(count) => {
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Value::Tuple(items))?;
            }
            Op::Tuple => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items))?;
            }
            Op::EmptyList | Op::EmptySet => self.push(Value::List(Vec::new()))?,
            Op::List | Op::FrozenSet => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items))?;
            }
            Op::Append => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            Op::Appends | Op::AddItems => {
                let items = self.pop_to_mark()?;
                self.extend_list(items)?;
            }
            Op::EmptyDict => self.push(Value::Dict(Vec::new()))?,
            Op::Dict => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(pairs(&items)?))?;
            }
            Op::SetItem => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.extend_dict(&[key, value])?;
            }
            Op::SetItems => {
                let items = self.pop_to_mark()?;
                self.extend_dict(&items)?;
            }
            Op::Get(index) => match self.memo.get(&index) {
                Some(&id) => self.repeat(id)?,
                None => {
                    return malformed(format!(
                        "its pickle refers to memo {index}, which is not set; the file is damaged"
                    ));
                }
            },
            Op::Put(index) => {
                let top = self.top()?;
                self.memo.insert(index, top);
            }
            Op::Memoize => {
                let top = self.top()?;
                self.memo.insert(self.memo.len() as u32, top);
            }
            Op::Global(module, name) => self.global(module, name)?,
            Op::StackGlobal => {
                let name = self.pop_str()?;
                let module = self.pop_str()?;
                self.global(&module, &name)?;
            }
            Op::Reduce | Op::NewObj => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.call(callable, arguments)?;
            }
            Op::NewObjEx => {
                self.pop()?;
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.call(callable, arguments)?;
            }
            Op::Build => {
                let state = self.pop()?;
                let object = self.top()?;
                // Only modules have a state that matters; that of others is attributes such as `_metadata`.
                if let Value::Module(attributes) = self.get_mut(object)? {
                    *attributes = Some(state);
                }
            }
            Op::PersistentId => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(Rc::new(storage)))?;
            }
        }
        Ok(())
    }

    /// Pushes a value that exists.
    fn repeat(&mut self, id: Id) -> Result<(), Fault> {
        self.spend(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<(), Fault> {
        let list = self.top()?;
        match self.get_mut(list)? {
            Value::List(list) => list.extend(items),
            Value::Inert => {}
            _ => return malformed("its pickle appends to something that is not a list; the file is damaged"),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), Fault> {
        let dict = self.top()?;
        let items = pairs(items)?;
        match self.get_mut(dict)? {
            Value::Dict(dict) => dict.extend(items),
            Value::Inert => {}
            _ => {
                return malformed(
                    "its pickle sets an item of something that is not a dictionary; the file is damaged",
                );
            }
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        match globals::find(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(Fault::Unsafe(format!("{module}.{name}"))),
        }
    }

    /// Does what the listed Python name does when it is called.
    fn call(&mut self, callable: Id, arguments: Id) -> Result<(), Fault> {
        let &Value::Global(global) = self.get(callable) else {
            return malformed("its pickle calls something that is not a known constructor");
        };
        let argument = |index: usize| self.item(arguments, index);
        match global {
            Global::RebuildTensor => {
                let tensor = self.tensor(arguments)?;
                self.push(Value::Tensor(Rc::new(tensor)))
            }
            Global::FirstArgument => {
                let Some(first) = argument(0) else {
                    return malformed(
                        "its pickle calls a constructor without an argument; the file is damaged",
                    );
                };
                self.repeat(first)
            }
            Global::RebuildFromType => {
                let (Some(callable), Some(arguments)) = (argument(0), argument(2)) else {
                    return malformed("its pickle rebuilds a tensor without saying how; the file is damaged");
                };
                if matches!(self.get(callable), Value::Global(Global::RebuildFromType)) {
                    return malformed("its pickle nests constructors in a way that PyTorch doesn't");
                }
                self.call(callable, arguments)
            }
            Global::Dict => {
                let items = match argument(0).map(|first| (first, self.get(first))) {
                    Some((first, Value::Dict(_))) => return self.repeat(first),
                    Some((_, Value::List(items) | Value::Tuple(items))) => self.items(items),
                    _ => Vec::new(),
                };
                self.spend(items.len())?;
                self.push(Value::Dict(items))
            }
            Global::List => match argument(0) {
                Some(first) if matches!(self.get(first), Value::List(_) | Value::Tuple(_)) => {
                    self.repeat(first)
                }
                _ => self.push(Value::List(Vec::new())),
            },
            Global::Module => self.push(Value::Module(None)),
            Global::Inert => self.push(Value::Inert),
            Global::Storage(_) | Global::Element(_) => {
                malformed("its pickle calls an element type; the file is damaged")
            }
        }
    }

    /// The item `index` of a tuple or list.
    fn item(&self, sequence: Id, index: usize) -> Option<Id> {
        match self.get(sequence) {
            Value::Tuple(items) | Value::List(items) => items.get(index).copied(),
            _ => None,
        }
    }

    /// The `(key, value)` pairs among `items`, as `dict([(key, value), ..])` takes them.
    fn items(&self, items: &[Id]) -> Vec<(Id, Id)> {
        items.iter().filter_map(|&pair| Some((self.item(pair, 0)?, self.item(pair, 1)?))).collect()
    }

    /// The storage that a persistent id names: `("storage", type, key, location, count)`.
    fn storage(&self, id: Id) -> Result<StorageRef, Fault> {
        let item = |index: usize| self.item(id, index).map(|id| self.get(id));
        match (item(0), item(1), item(2), item(4)) {
            (
                Some(Value::Str(kind)),
                Some(&Value::Global(Global::Storage(element))),
                Some(Value::Str(key)),
                Some(&Value::Int(count)),
            ) if kind == "storage" => {
                let bytes =
                    u64::try_from(count).ok().and_then(|count| count.checked_mul(element.size as u64));
                let Some(bytes) = bytes else {
                    return malformed(format!(
                        "its pickle announces a storage of {count} elements; the file is damaged"
                    ));
                };
                Ok(StorageRef { key: key.to_string(), element, bytes })
            }
            _ => malformed(
                "its pickle has a reference to something that is not a storage; the file is damaged",
            ),
        }
    }

    /// A tensor from `(storage, offset, size, strides, ..)`, with its element type in the seventh place if the
    /// storage doesn't have one.
    fn tensor(&self, arguments: Id) -> Result<TensorRef, Fault> {
        let argument = |index: usize| self.item(arguments, index);
        let (Some(storage), Some(offset), Some(dims), Some(strides)) =
            (argument(0), argument(1), argument(2), argument(3))
        else {
            return malformed("its pickle makes a tensor of too few arguments; the file is damaged");
        };
        let Value::Storage(storage) = self.get(storage) else {
            return malformed("its pickle makes a tensor without a storage; the file is damaged");
        };
        let element: ElementType = match argument(6).map(|id| self.get(id)) {
            Some(&Value::Global(Global::Element(element))) => element,
            _ => storage.element,
        };
        let offset = self.size(offset)?;
        let dims = self.sizes(dims)?;
        let strides = self.sizes(strides)?;
        if dims.len() != strides.len() {
            return malformed(format!(
                "its pickle makes a tensor of {} dimensions with {} strides; the file is damaged",
                dims.len(),
                strides.len()
            ));
        }
        Ok(TensorRef { storage: Rc::clone(storage), element, offset, dims, strides })
    }

    fn size(&self, id: Id) -> Result<usize, Fault> {
        match self.get(id) {
            Value::Int(size) => usize::try_from(*size).or_else(|_| {
                malformed(format!("its pickle makes a tensor with size {size}; the file is damaged"))
            }),
            _ => malformed("its pickle makes a tensor with a size that is not a number; the file is damaged"),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, Fault> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) if items.len() <= MAX_DIMS => {
                items.iter().map(|&item| self.size(item)).collect()
            }
            _ => malformed(
                "its pickle makes a tensor whose dimensions are not a short list; the file is damaged",
            ),
        }
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Fault> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return malformed("its pickle has a key without a value; the file is damaged");
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
