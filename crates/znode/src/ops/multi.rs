//! multi: several writes as one, all or nothing, at one zxid and one time.
//!
//! Operations run one after the other on the tree itself, so each sees what those before it did: create a parent and
//! then its child, two sequential creates with two numbers. At the first failure the undo list is run backwards and
//! the changes so far are forgotten; nobody has seen them, since `apply` is one step for readers.

use super::Work;
use crate::mutant::mutant;
use crate::outcome::{OpReply, Reply};
use bytes::Bytes;
use jute::{ErrorCode, MultiOp, Reader, decode_multi};

impl Work<'_> {
    pub(super) fn multi(&mut self, body: &Bytes) -> Result<Reply, ErrorCode> {
        let ops = decode_multi(&mut Reader::new(body)).map_err(|_| ErrorCode::MarshallingError)?;
        let mut results = Vec::with_capacity(ops.len());
        for (at, op) in ops.iter().enumerate() {
            match self.op(op) {
                Ok(result) => results.push(result),
                Err(code) => {
                    if !mutant!(MultiNotAtomic) {
                        self.changes.clear();
                        self.tree.undo(std::mem::take(&mut self.undo));
                    }
                    return Ok(Reply::MultiFailed { count: ops.len() as u32, failed: at as u32, code });
                }
            }
        }
        Ok(Reply::Multi(results))
    }

    fn op(&mut self, op: &MultiOp) -> Result<OpReply, ErrorCode> {
        Ok(match op {
            MultiOp::Create(request) => OpReply::Created { path: self.create(request)?.0 },
            MultiOp::Create2(request) | MultiOp::CreateContainer(request) => {
                let (path, stat) = self.create(request)?;
                OpReply::Created2 { path, stat }
            }
            MultiOp::CreateTtl(request) => {
                let (path, stat) = self.create_ttl(request)?;
                OpReply::Created2 { path, stat }
            }
            MultiOp::Delete(request) => {
                self.delete(request)?;
                OpReply::Deleted
            }
            MultiOp::SetData(request) => OpReply::Stat(self.set_data(request)?),
            MultiOp::Check(request) => {
                self.check(request)?;
                OpReply::Checked
            }
        })
    }
}
