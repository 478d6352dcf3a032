//! A history with its calls found, and places in it to change.

use super::{is_write, reads};
use history::{Event, EventKind, History, Op, Outcome, Reply, Stat, What};
use std::collections::BTreeMap;

pub struct Case {
    pub history: History,
    /// Per call: its `Invoke` and `Return`.
    pub calls: BTreeMap<u64, (usize, Option<usize>)>,
}

impl Case {
    pub fn new(history: History) -> Self {
        let mut calls = BTreeMap::new();
        for (index, event) in history.events.iter().enumerate() {
            match &event.what {
                What::Invoke { call, .. } => drop(calls.insert(*call, (index, None))),
                What::Return { call, .. } => calls.get_mut(call).unwrap().1 = Some(index),
                _ => {}
            }
        }
        Self { history, calls }
    }

    pub fn what(&mut self, index: usize) -> &mut What {
        &mut self.history.events[index].what
    }

    pub fn op(&self, call: u64) -> (&Op, i64) {
        match &self.history.events[self.calls[&call].0].what {
            What::Invoke { op, session, .. } => (op, *session),
            _ => unreachable!(),
        }
    }

    /// Answered calls: (call, invoke, return), in the order of the answers.
    pub fn answered(&self) -> Vec<(u64, usize, usize)> {
        let all = self.calls.iter().filter_map(|(call, (from, to))| Some((*call, *from, (*to)?)));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(.., to)| *to);
        all
    }

    pub fn answer(&mut self, to: usize) -> (&mut i64, &mut Outcome) {
        match self.what(to) {
            What::Return { zxid, outcome, .. } => (zxid, outcome),
            _ => unreachable!(),
        }
    }

    pub fn zxid(&self, to: usize) -> i64 {
        match &self.history.events[to].what {
            What::Return { zxid, .. } | What::Watch { zxid, .. } => *zxid,
            _ => 0,
        }
    }

    /// An answered call in the second half, where everything has been seen once.
    pub fn late(&self, fits: impl Fn(&Op, &Outcome) -> bool) -> Option<usize> {
        let middle = self.history.events.len() / 2;
        let mut calls = self.answered().into_iter().filter(|(.., to)| *to > middle);
        let found = calls.find(|(call, _, to)| match &self.history.events[*to].what {
            What::Return { outcome, .. } => fits(self.op(*call).0, outcome),
            _ => false,
        });
        found.map(|(.., to)| to)
    }

    pub fn outcome_of(&mut self, fits: fn(&Op, &Outcome) -> bool, change: fn(&mut Outcome)) -> bool {
        let found = self.late(fits);
        if let Some(to) = found {
            change(self.answer(to).1);
        }
        found.is_some()
    }

    pub fn stat_of(&mut self, fits: fn(&Op) -> bool, change: fn(&mut Stat)) -> bool {
        let found = self.late(|op, out| fits(op) && matches!(out, Outcome::Ok(Reply::Stat(_))));
        if let Some(to) = found
            && let Outcome::Ok(Reply::Stat(stat)) = self.answer(to).1
        {
            change(stat);
        }
        found.is_some()
    }

    pub fn zxid_of(&mut self, fits: fn(&Op) -> bool, change: fn(i64) -> i64) -> bool {
        let found = self.late(|op, _| fits(op));
        if let Some(to) = found {
            let zxid = self.answer(to).0;
            *zxid = change(*zxid);
        }
        found.is_some()
    }

    pub fn data_of(&mut self, at: &str, change: fn(&mut String, &mut Stat)) -> bool {
        let found = self.late(|op, out| reads(op, at) && matches!(out, Outcome::Ok(Reply::Data { .. })));
        if let Some(to) = found
            && let Outcome::Ok(Reply::Data { data, stat }) = self.answer(to).1
        {
            change(data, stat);
        }
        found.is_some()
    }

    pub fn names_of(&mut self, change: fn(&mut Vec<String>, &mut Stat)) -> bool {
        let some =
            |out: &Outcome| matches!(out, Outcome::Ok(Reply::Children { names, .. }) if !names.is_empty());
        let found =
            self.late(|op, out| matches!(op, Op::Children { path, .. } if path == "/set") && some(out));
        if let Some(to) = found
            && let Outcome::Ok(Reply::Children { names, stat }) = self.answer(to).1
        {
            change(names, stat);
        }
        found.is_some()
    }

    pub fn end(&self) -> usize {
        self.history.events.iter().position(|event| event.what == What::Final).unwrap()
    }

    pub fn final_names(&mut self, change: fn(&mut Vec<String>)) -> bool {
        let end = self.end();
        for index in end..self.history.events.len() {
            if let What::Return { call, .. } = self.history.events[index].what
                && matches!(self.op(call).0, Op::Children { path, .. } if path == "/set")
                && let Outcome::Ok(Reply::Children { names, stat }) = self.answer(index).1
                && !names.is_empty()
            {
                change(names);
                stat.num_children = names.len() as i32;
                return true;
            }
        }
        false
    }

    pub fn final_data(&mut self, change: fn(&mut String)) -> bool {
        let end = self.end();
        for index in end..self.history.events.len() {
            if let What::Return { call, .. } = self.history.events[index].what
                && reads(self.op(call).0, "/bank/x")
                && let Outcome::Ok(Reply::Data { data, .. }) = self.answer(index).1
            {
                change(data);
                return true;
            }
        }
        false
    }

    /// The second of two reads of one node by one session.
    pub fn reread(&mut self, change: fn(&mut Stat)) -> bool {
        let mut seen = BTreeMap::new();
        for (call, _, to) in self.answered() {
            let (op, session) = self.op(call);
            let Op::Get { path, .. } = op else { continue };
            let key = (session, path.clone());
            if let Outcome::Ok(Reply::Data { stat, .. }) = self.answer(to).1
                && let Some(before) = seen.insert(key, *stat)
                && before.mzxid == stat.mzxid
                && stat.mzxid > stat.czxid
            {
                change(stat);
                return true;
            }
        }
        false
    }

    /// Indices of events with a zxid, in the second half.
    pub fn events(&self) -> Vec<usize> {
        let all = self.history.events.iter().enumerate().skip(self.history.events.len() / 3);
        all.filter(|(_, e)| matches!(e.what, What::Watch { zxid, .. } if zxid > 0))
            .map(|(at, _)| at)
            .collect()
    }

    pub fn event(&mut self, change: fn(&mut i64, &mut EventKind, &mut String)) -> bool {
        let Some(at) = self.events().first().copied() else { return false };
        if let What::Watch { zxid, kind, path, .. } = self.what(at) {
            change(zxid, kind, path);
        }
        true
    }

    pub fn multi(&mut self, change: fn(&mut Vec<Outcome>) -> bool) -> bool {
        for (.., to) in self.answered() {
            if let Outcome::Ok(Reply::Multi(results)) = self.answer(to).1
                && change(results)
            {
                return true;
            }
        }
        false
    }

    pub fn insert(&mut self, at: usize, client: u32, what: What) {
        let at_us = self.history.events[at - 1].at_us;
        self.history.events.insert(at, Event { at_us, client, what });
    }

    /// Answered writes of the second half, by zxid.
    pub fn writes(&self) -> Vec<usize> {
        let all = self.answered().into_iter().filter(|(call, ..)| is_write(self.op(*call).0));
        let mut all: Vec<_> =
            all.map(|(.., to)| to).filter(|to| *to > self.history.events.len() / 2).collect();
        all.sort_by_key(|to| self.zxid(*to));
        all
    }
}
