//! How a hook shows itself: its name with what it means.

use crate::display::{Show, Shown, shows};
use crate::model::{HookPoint, Site};

shows!(HookPoint);

impl Show for HookPoint {
    fn shown(&self) -> Shown {
        let meaning = match self.site {
            Site::ResidPre => "the residual stream as it enters the block",
            Site::AttnOut => "what attention adds to the residual stream",
            Site::ResidMid => "the residual stream between attention and MLP",
            Site::MlpOut => "what the MLP adds to the residual stream",
            Site::ResidPost => "the residual stream as it leaves the block",
        };
        let block = format!("block {}", self.layer);
        let meaning = if meaning.contains("the block") {
            meaning.replace("the block", &block)
        } else {
            format!("{meaning} in {block}")
        };
        Shown::sentence(&self.to_string(), &meaning)
    }
}
