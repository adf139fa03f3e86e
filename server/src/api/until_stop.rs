//! Calls that never end by themselves end when the member stops, and those of a client that asked for it when the leader
//! is lost. A client that sees such an end goes on at another member, or at this one when it is back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use keepstone_state::Error;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;

use super::error::status;
use crate::cluster::leadership::View;

/// Calls whose answers end only when the client or the member has had enough.
const ENDLESS: [&str; 4] = [
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/v3electionpb.Election/Observe",
    "/grpc.health.v1.Health/Watch",
];

/// Whether calls of the method at `path` never end by themselves.
pub fn is_endless(path: &str) -> bool {
    ENDLESS.contains(&path)
}

/// Returns once the member is about to stop; never, if there is nobody left to say so.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

/// An answer that ends with the member: what is ready still goes out, then the call is over.
pub struct UntilStop {
    body: Option<Body>,
    ended: Pin<Box<dyn Future<Output = Error> + Send>>,
}

impl UntilStop {
    /// `leader`, if given, ends the answer as soon as there is no leader.
    pub fn new(body: Body, mut stopping: watch::Receiver<bool>, leader: Option<watch::Receiver<View>>) -> Self {
        let ended = async move {
            tokio::select! {
                biased;
                () = stopped(&mut stopping) => Error::Stopped,
                () = lost(leader) => Error::NoLeader,
            }
        };
        Self { body: Some(body), ended: Box::pin(ended) }
    }
}

/// Returns once there is no leader; never if nobody asked.
async fn lost(leader: Option<watch::Receiver<View>>) {
    match leader {
        Some(mut views) => drop(views.wait_for(|view| view.leader.is_none()).await),
        None => std::future::pending().await,
    }
}

impl http_body::Body for UntilStop {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if polled.is_ready() {
            return polled;
        }
        let Poll::Ready(why) = self.ended.as_mut().poll(cx) else { return polled };
        self.body = None;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status(&why).add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    #[tokio::test]
    async fn an_endless_answer_ends_when_the_member_stops_and_not_before() {
        let stop = watch::Sender::new(false);
        let (events, sent) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, Status>>();
        let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(sent);
        let mut body = UntilStop::new(Body::new(StreamBody::new(stream)), stop.subscribe(), None);
        let send = |text| drop(events.send(Ok(Frame::data(Bytes::from_static(text)))));
        send(b"one");
        assert_eq!(body.frame().await.and_then(|frame| frame.ok()?.into_data().ok()), Some(Bytes::from_static(b"one")));
        send(b"two");
        stop.send_replace(true);
        assert_eq!(body.frame().await.and_then(|frame| frame.ok()?.into_data().ok()), Some(Bytes::from_static(b"two")));
        let end = body.frame().await.expect("an end").expect("no error").into_trailers().expect("trailers");
        let status = Status::from_header_map(&end).expect("a status");
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "etcdserver: server stopped"));
        assert!(body.frame().await.is_none());
        assert!(events.is_closed(), "whoever makes the answers has to hear of the end");
    }

    #[tokio::test]
    async fn an_answer_that_wants_a_leader_ends_when_there_is_none() {
        let leader = watch::Sender::new(View { leader: Some(keepstone_state::MemberId(1)), term: 1 });
        let stop = watch::Sender::new(false);
        let stream = tokio_stream::pending::<Result<Frame<Bytes>, Status>>();
        let body = Body::new(StreamBody::new(stream));
        let mut body = UntilStop::new(body, stop.subscribe(), Some(leader.subscribe()));
        leader.send_replace(View { leader: None, term: 1 });
        let end = body.frame().await.expect("an end").expect("no error").into_trailers().expect("trailers");
        let status = Status::from_header_map(&end).expect("a status");
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "etcdserver: no leader"));
    }
}
