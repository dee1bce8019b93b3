//! The pipeline as the listener calls it.

use bytes::Bytes;
use http::request::Parts;

use crate::{
    listener::Calls,
    pipeline::{Admitted, BodyFault, Pipeline, Reply, TurnedAway},
    record::CallId,
    wire::Format,
};

impl Calls for Pipeline {
    type Admitted = Admitted;

    async fn admit(&self, head: &Parts, format: Format, id: CallId) -> Result<Admitted, Reply> {
        Self::admit(self, head, format, id).await
    }

    async fn answer(&self, call: Admitted, body: Bytes) -> Reply {
        Self::answer(self, call, body).await
    }

    async fn refuse(&self, call: Admitted, why: BodyFault) -> Reply {
        Self::refuse(self, call, why).await
    }

    fn models(&self, head: &Parts, id: CallId) -> Reply {
        Self::models(self, head, id)
    }

    fn interrupted(&self, id: CallId) -> Reply {
        Self::interrupted(self, id)
    }

    fn turn_away(&self, why: TurnedAway, id: CallId) -> Reply {
        Self::turn_away(self, &why, id)
    }

    fn interrupting(&self) {
        Self::interrupting(self);
    }
}
