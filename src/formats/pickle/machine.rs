//! The machine that a pickle is a program for, as far as PyTorch's programs need it: protocol 2,
//! and the short forms of protocol 4.

use std::collections::{BTreeMap, HashMap};

use super::{Plain, Stored, globals};

/// A value's place in the list of all.
type Id = usize;

#[derive(Clone, Debug)]
enum Value {
    /// None, an integer beyond 64 bits.
    Other,
    Flag(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A function or a class, "torch._utils _rebuild_tensor_v2".
    Global(String),
    /// A call that was not made.
    Call(Id, Id),
    /// Something outside the pickle: a storage.
    Persistent(Id),
}

/// A running program.
pub(super) struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Where the stack stood at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

/// What stands in a pickle's dictionary, by name.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub tensors: BTreeMap<String, Stored>,
    pub plain: BTreeMap<String, Plain>,
}

/// How many bytes of names and texts may be found for each byte of a pickle: a name has those of
/// the dictionaries around it before it.
const ROOM: usize = 4;

/// How many dictionaries within each other are looked through.
const DEEPEST: usize = 3;

/// PyTorch computes with no tensor of more axes (`dim_bitset_size` of ATen).
const MOST_AXES: usize = 64;

type Result<T> = std::result::Result<T, String>;

impl<'a> Machine<'a> {
    /// Runs a program to its end, and returns what stands in the dictionary that it makes: tensors,
    /// numbers and texts. Those of a dictionary within it have both names, `ae.bias`.
    pub fn run(code: &'a [u8]) -> Result<Found> {
        let mut machine = Machine {
            code,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        while machine.step().map_err(|why| format!("{why} (at byte {})", machine.at))? {}
        let top = machine.pop()?;
        if !matches!(machine.values[top], Value::Dict(_)) {
            return Err("it does not make a dictionary of tensors".to_owned());
        }
        let mut found = Found::default();
        let mut left = ROOM * code.len();
        machine.collect(top, "", DEEPEST, &mut left, &mut found)?;
        Ok(found)
    }

    /// Finds what is in a dictionary. What stands in several places is found in each, so `left`
    /// bounds how many bytes it may come to.
    fn collect(
        &self,
        dict: Id,
        prefix: &str,
        deeper: usize,
        left: &mut usize,
        found: &mut Found,
    ) -> Result<()> {
        let Value::Dict(items) = &self.values[dict] else { return Ok(()) };
        for (key, value) in items {
            let key = match &self.values[*key] {
                Value::Text(key) => key,
                // As in what an optimizer remembers of each parameter.
                _ => "[a key that is no text]",
            };
            let mut pay = |bytes: usize| -> Result<()> {
                *left =
                    left.checked_sub(bytes).ok_or("the same values occur in it over and over")?;
                Ok(())
            };
            pay(prefix.len() + key.len() + 1)?;
            let name = format!("{prefix}{key}");
            if let Some(stored) = self.tensor(*value) {
                pay(stored.class.len()
                    + stored.storage.len()
                    + stored.shape.len()
                    + stored.strides.len())?;
                found.tensors.insert(name, stored);
                continue;
            }
            match &self.values[*value] {
                Value::Int(number) => drop(found.plain.insert(name, Plain::Number(*number as f64))),
                Value::Float(number) => drop(found.plain.insert(name, Plain::Number(*number))),
                Value::Flag(flag) => drop(found.plain.insert(name, Plain::Flag(*flag))),
                Value::Text(text) => {
                    pay(text.len())?;
                    found.plain.insert(name, Plain::Text(text.clone()));
                }
                Value::Dict(_) if deeper > 0 => {
                    self.collect(*value, &(name + "."), deeper - 1, left, found)?
                }
                Value::Other => {}
                Value::List(items) | Value::Tuple(items) if items.is_empty() => {}
                _ => drop(found.plain.insert(name, Plain::Other)),
            }
        }
        Ok(())
    }

    /// Does one instruction; `false` at the end.
    fn step(&mut self) -> Result<bool> {
        let code = self.take(1)?[0];
        match code {
            0x80 => drop(self.take(1)?), // PROTO
            0x95 => drop(self.take(8)?), // FRAME
            b'.' => return Ok(false),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' => self.push(Value::Other),
            0x88 | 0x89 => self.push(Value::Flag(code == 0x88)),
            b'G' => {
                let bytes =
                    self.take(8)?.iter().fold(0, |bits: u64, &byte| bits << 8 | u64::from(byte));
                self.push(Value::Float(f64::from_bits(bytes)));
            }
            b'J' => self.int(4)?,
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            0x8a => self.long()?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global_named(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let [Value::Text(module), Value::Text(name)] =
                    [module, name].map(|id| self.values[id].clone())
                else {
                    return Err("a global without a name".to_owned());
                };
                self.global_named(&module, &name)?;
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            0x94 => {
                let key = self.memo.len() as u32;
                self.memo.insert(key, self.last()?);
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'a' => {
                let items = self.pop_many(1)?;
                self.extend(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let items = self.pop_many(2)?;
                self.set(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let is_dict = matches!(&self.values[callable], Value::Global(name) if name == "collections OrderedDict");
                self.push(if is_dict {
                    Value::Dict(Vec::new())
                } else {
                    Value::Call(callable, arguments)
                });
            }
            // BUILD: what is set on an object does not change its tensors.
            b'b' => drop(self.pop()?),
            // INST, of protocol 0: a call of a global in one instruction.
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global_named(module, name)?;
                return Err("an object is made in a way that PyTorch never writes".to_owned());
            }
            other => {
                return Err(format!("instruction {other:#04x} is not one that PyTorch writes"));
            }
        }
        Ok(true)
    }

    /// A function or a class, if it is one that files of tensors have.
    fn global_named(&mut self, module: &str, name: &str) -> Result<()> {
        let name = format!("{module} {name}");
        if !globals::is_known(&name) {
            let shown: String = name.replace(' ', ".").chars().take(100).collect();
            return Err(format!(
                "it names {shown:?}, which is not part of a tensor: Python would import and could call it; nothing of it was run, and the file is not read"
            ));
        }
        self.push(Value::Global(name));
        Ok(())
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self
            .at
            .checked_add(n)
            .filter(|&end| end <= self.code.len())
            .ok_or("it ends in the middle")?;
        let bytes = &self.code[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    /// A little-endian number without sign.
    fn number(&mut self, n: usize) -> Result<u32> {
        Ok(self.take(n)?.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn int(&mut self, n: usize) -> Result<()> {
        let number = self.number(n)?;
        self.push(Value::Int(if n == 4 { i64::from(number as i32) } else { number.into() }));
        Ok(())
    }

    /// A number of up to eight bytes, in two's complement.
    fn long(&mut self) -> Result<()> {
        let n = self.take(1)?[0];
        let bytes = self.take(n.into())?;
        let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { -1 } else { 0 };
        let value = if n > 8 {
            Value::Other
        } else {
            Value::Int(
                bytes.iter().rev().fold(sign, |number: i64, &byte| number << 8 | i64::from(byte)),
            )
        };
        self.push(value);
        Ok(())
    }

    /// A text, its length in `n` bytes before it.
    fn text(&mut self, n: usize) -> Result<()> {
        let n = self.number(n)? as usize;
        let text = std::str::from_utf8(self.take(n)?).map_err(|_| "a text that is not UTF-8")?;
        self.push(Value::Text(text.to_owned()));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.code[self.at..];
        let n = rest.iter().position(|&byte| byte == b'\n').ok_or("it ends in the middle")?;
        let line = self.take(n + 1)?;
        std::str::from_utf8(&line[..n]).map_err(|_| "a name that is not UTF-8".to_owned())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id> {
        Ok(self.pop_many(1)?[0])
    }

    /// The last `n`, the first of them first.
    fn pop_many(&mut self, n: usize) -> Result<Vec<Id>> {
        // No further down than to the last mark.
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(n).filter(|&from| from >= floor);
        Ok(self.stack.split_off(from.ok_or("the stack is empty")?))
    }

    fn last(&self) -> Result<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn put(&mut self, n: usize) -> Result<()> {
        let key = self.number(n)?;
        self.memo.insert(key, self.last()?);
        Ok(())
    }

    fn get(&mut self, n: usize) -> Result<()> {
        let key = self.number(n)?;
        self.stack.push(*self.memo.get(&key).ok_or("something is used before it is stored")?);
        Ok(())
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<()> {
        let list = self.last()?;
        let Value::List(list) = &mut self.values[list] else {
            return Err("something is appended to what is not a list".to_owned());
        };
        list.extend(items);
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<()> {
        let dict = self.last()?;
        let Value::Dict(dict) = &mut self.values[dict] else {
            return Err("something is put into what is not a dictionary".to_owned());
        };
        let (pairs, rest) = items.as_chunks::<2>();
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        if rest.is_empty() { Ok(()) } else { Err("a key without a value".to_owned()) }
    }

    /// The tensor that a value is, if it is one.
    fn tensor(&self, id: Id) -> Option<Stored> {
        let Value::Call(mut callable, mut arguments) = self.values[id] else { return None };
        // A tensor within a parameter, or of a class of its own. A program could nest them without
        // end.
        for _ in 0..3 {
            let inner = self.tuple(arguments)?;
            match self.global(callable)? {
                "torch._utils _rebuild_tensor_v2" => return self.rebuilt(inner),
                "torch._utils _rebuild_parameter" => {
                    let Value::Call(f, x) = self.values[*inner.first()?] else { return None };
                    (callable, arguments) = (f, x);
                }
                "torch._tensor _rebuild_from_type_v2" => {
                    (callable, arguments) = (*inner.first()?, *inner.get(2)?)
                }
                _ => return None,
            }
        }
        None
    }

    /// From the arguments of `_rebuild_tensor_v2`: storage, offset, size, stride, and more that
    /// does not matter.
    fn rebuilt(&self, arguments: &[Id]) -> Option<Stored> {
        let [storage, offset, size, stride, ..] = arguments else { return None };
        let Value::Persistent(storage) = self.values[*storage] else { return None };
        // ("storage", its class, its file, the device, its length)
        let [_, class, file, ..] = self.tuple(storage)? else { return None };
        let numbers = |id: Id| {
            self.tuple(id)?.iter().map(|&id| self.size(id)).collect::<Option<Vec<usize>>>()
        };
        let Value::Text(file) = &self.values[*file] else { return None };
        let (shape, strides) = (numbers(*size)?, numbers(*stride)?);
        (shape.len() == strides.len() && shape.len() <= MOST_AXES).then_some(())?;
        let class = self.global(*class)?.rsplit(' ').next()?.to_owned();
        Some(Stored { class, storage: file.clone(), offset: self.size(*offset)?, shape, strides })
    }

    fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Value::Tuple(items) = &self.values[id] { Some(items) } else { None }
    }

    fn global(&self, id: Id) -> Option<&str> {
        if let Value::Global(name) = &self.values[id] { Some(name) } else { None }
    }

    fn size(&self, id: Id) -> Option<usize> {
        if let Value::Int(number) = self.values[id] { number.try_into().ok() } else { None }
    }
}
