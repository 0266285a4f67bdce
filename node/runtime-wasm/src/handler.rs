//! `wasi:http` components: an instance for each request, or for several one after the other.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime::{Engine, PoolConcurrencyLimitError};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::{WasiBody, WasiHttpView as _};

use crate::container::{InFlight, Shared};
use crate::exit::{Exit, Reason};
use crate::guest::{self, Watcher};
use crate::host::Host;
use crate::logs::{LogSink as _, LogStream};
use crate::memory::Limiter;
use crate::module::{Code, Module};
use crate::net::Body;
use crate::response;
use crate::reuse::Instance;
use crate::threads::{self, Work};

/// Answers the requests of one container.
#[async_trait]
pub trait HttpHandler: Send + Sync + 'static {
    /// Answers one, or gives it back untouched if the container takes no more: it may be tried elsewhere. Dropping the
    /// future gives the request up.
    async fn offer(&self, request: Request<Body>) -> Result<Answer, Box<Request<Body>>>;

    /// Answers one. Dropping the future gives the request up.
    async fn handle(&self, request: Request<Body>) -> Answer {
        self.offer(request).await.unwrap_or(Err(HandlerError::Stopped))
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// The container has ended or is about to.
    #[error("the container is not running")]
    Stopped,
    /// The guest trapped, ran out of memory or exited; so did its container.
    #[error("the guest failed: {0}")]
    Failed(String),
    /// The guest returned without a response.
    #[error("the guest gave no response")]
    NoResponse,
    /// The guest answered with an error instead of a response.
    #[error("the guest answered with an error: {0}")]
    Guest(String),
    /// It took longer than the node allows.
    #[error("the request took longer than {0:?}")]
    DeadlineExceeded(Duration),
    /// The node holds as many instances as it can.
    #[error("too many instances on this node")]
    Overloaded,
    /// The request cannot be given to a guest.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
}

impl HandlerError {
    /// What a client is told.
    pub fn status(&self) -> StatusCode {
        match self {
            HandlerError::Stopped | HandlerError::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            HandlerError::DeadlineExceeded(_) => StatusCode::GATEWAY_TIMEOUT,
            HandlerError::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            HandlerError::Failed(_) | HandlerError::NoResponse | HandlerError::Guest(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// A response for the client, which says no more than it needs to know.
    pub fn into_response(self) -> Response<Body> {
        let status = self.status();
        let text = format!("{}\n", status.canonical_reason().unwrap_or("Error"));
        let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
        *response.status_mut() = status;
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
    }
}

/// A response, or why there is none.
pub type Answer = Result<Response<Body>, HandlerError>;

pub(crate) struct Handler {
    pub(crate) shared: Arc<Shared>,
    pub(crate) module: Arc<Module>,
    pub(crate) engine: Engine,
    pub(crate) deadline: Option<Duration>,
}

#[async_trait]
impl HttpHandler for Handler {
    async fn offer(&self, request: Request<Body>) -> Result<Answer, Box<Request<Body>>> {
        let in_flight = InFlight::new(&self.shared);
        if self.shared.is_draining() {
            return Err(Box::new(request));
        }
        let (sender, mut receiver) = oneshot::channel();
        let call = Call {
            in_flight,
            module: self.module.clone(),
            engine: self.engine.clone(),
            deadline: self.deadline,
            sender: Sender(Some(sender)),
        };
        let guests = &self.shared.threads;
        let mut work: Option<Work> = Some(Box::pin(call.run(request)));
        let busy = self.shared.cpu.busy();
        if busy || threads::kind() != threads::Kind::Light {
            work.into_iter().for_each(|work| guests.spawn(work, busy));
            return Ok(receiver.await.unwrap_or(Err(HandlerError::Stopped)));
        }
        // On a guest's thread already: a request that is answered soon needs no other.
        let answer = poll_fn(|cx| {
            guests.poll_here(&mut work, cx);
            Pin::new(&mut receiver).poll(cx)
        });
        let answer = answer.await.unwrap_or(Err(HandlerError::Stopped));
        // What comes after the head, and after the response, is the guest's own time.
        work.into_iter().for_each(|work| guests.spawn(work, false));
        Ok(answer)
    }
}

/// Answers once.
struct Sender(Option<oneshot::Sender<Answer>>);

impl Sender {
    fn send(&mut self, answer: Answer) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(answer); // whoever asked may be gone
        }
    }
}

/// What a guest has set as its response, until the end of the poll in which it did.
type Outparam = Arc<Mutex<Option<Result<Response<WasiBody>, ErrorCode>>>>;

/// How a guest's call ended, with the instance, so that the answer can be sent before that is taken apart.
type Ended = (Option<Instance>, wasmtime::Result<()>);

/// Whoever waits for a request's answer.
struct Waiting<'a> {
    sender: &'a mut Sender,
    outparam: &'a Outparam,
    failed: &'a Arc<AtomicBool>,
}

impl Watcher<Ended> for Waiting<'_> {
    /// A small response is complete by the end of its guest's first poll. Answering only then wakes the client once, and
    /// with a body of known length.
    fn polled(&mut self, result: &mut Poll<Ended>) {
        let Some(answer) = self.outparam.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.sender.send(match (answer, &*result) {
            (Err(code), _) => Err(HandlerError::Guest(code.to_string())),
            (Ok(answer), Poll::Pending) => Ok(answer.map(|body| response::from_guest(body, self.failed.clone()))),
            (Ok(answer), Poll::Ready((_, Ok(())))) => {
                Ok(answer.map(|body| response::from_ended_guest(body, self.failed.clone())))
            }
            // It trapped right after its response had begun: there is still time to say so.
            (Ok(_), Poll::Ready((_, Err(error)))) => Err(failure(error)),
        });
    }

    fn given_up(&mut self, cx: &mut Context<'_>) -> bool {
        self.sender.0.as_mut().is_some_and(|sender| sender.poll_closed(cx).is_ready())
    }
}

/// One request on its way through one instance.
struct Call {
    in_flight: InFlight,
    module: Arc<Module>,
    engine: Engine,
    deadline: Option<Duration>,
    sender: Sender,
}

impl Call {
    async fn run(mut self, request: Request<Body>) {
        let container = self.in_flight.0.clone();
        let outparam = Outparam::default();
        let failed = Arc::new(AtomicBool::new(false));
        let instance = match container.idle.take() {
            Some(kept) => Start::Kept(Box::new(kept)),
            None => {
                let admitted = container.memory.admit(self.module.initial_memory, || container.idle.give_way());
                let given_up = async {
                    match &mut self.sender.0 {
                        Some(sender) => sender.closed().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    limiter = admitted => Start::New(limiter),
                    () = given_up => return,
                }
            }
        };
        let asked = self.deadline.map(|deadline| (deadline, request.method().clone(), request.uri().clone()));
        let guest = serve(&self.engine, container.clone(), &self.module, instance, request, outparam.clone());
        // Taken apart only when everything is said: its body must not end before it is known whether it failed.
        let mut guest = pin!(guest);
        let mut waiting = Waiting { sender: &mut self.sender, outparam: &outparam, failed: &failed };
        let running = guest::run(&container, guest.as_mut(), &mut waiting);
        let result = match asked {
            Some((deadline, method, uri)) => match tokio::time::timeout(deadline, running).await {
                Ok(result) => result,
                Err(_) => {
                    failed.store(true, SeqCst);
                    let text = format!("DeadlineExceeded: {method} {} took longer than {deadline:?}\n", uri.path());
                    container.logs.write(LogStream::Stderr, text.as_bytes());
                    return self.sender.send(Err(HandlerError::DeadlineExceeded(deadline)));
                }
            },
            None => running.await,
        };
        match result {
            Ok((instance, Ok(()))) => {
                self.sender.send(Err(HandlerError::NoResponse));
                if let Some(instance) = instance {
                    container.idle.keep(instance, &container);
                }
            }
            Ok((instance, Err(error))) => {
                failed.store(true, SeqCst);
                self.sender.send(Err(failure(&error)));
                drop(instance);
                self.ended(&error);
            }
            Err(guest::Killed) => {
                failed.store(true, SeqCst);
                self.sender.send(Err(HandlerError::Stopped));
            }
        }
    }

    /// A failed guest ends its container, unless it is not the guest's fault.
    fn ended(&self, error: &wasmtime::Error) {
        if error.is::<PoolConcurrencyLimitError>() || error.is::<guest::Killed>() || error.is::<BadRequest>() {
            return;
        }
        let exit = Exit::from_error(error);
        match exit.reason {
            Reason::OomKilled => {
                self.in_flight.0.end(exit);
                self.in_flight.0.kill_guests();
            }
            _ => self.in_flight.0.end_but_answer(exit),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadRequest(String);

fn failure(error: &wasmtime::Error) -> HandlerError {
    if error.is::<PoolConcurrencyLimitError>() {
        HandlerError::Overloaded
    } else if error.is::<guest::Killed>() {
        HandlerError::Stopped
    } else if let Some(BadRequest(why)) = error.downcast_ref() {
        HandlerError::InvalidRequest(why.clone())
    } else {
        let message = Exit::from_error(error).message;
        HandlerError::Failed(message.lines().next().unwrap_or_default().to_owned())
    }
}

/// What a request begins with.
enum Start {
    /// An instance that has answered before.
    Kept(Box<Instance>),
    /// Room for a new one.
    New(Limiter),
}

/// Calls an instance, which is made if need be.
async fn serve(
    engine: &Engine,
    container: Arc<Shared>,
    module: &Module,
    start: Start,
    mut request: Request<Body>,
    outparam: Outparam,
) -> Ended {
    let Code::Http(pre) = &module.code else {
        return (None, Err(wasmtime::Error::msg("not a wasi:http component")));
    };
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        // HTTP/1.0. wasi:http requires an authority.
        if let Ok(host) = HeaderValue::from_str(&container.authority) {
            request.headers_mut().insert(HOST, host);
        }
    }
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let mut instance = match start {
        Start::Kept(kept) => {
            let mut kept = *kept;
            kept.store.set_epoch_deadline(1);
            kept
        }
        Start::New(limiter) => {
            let mut store = Host::store(engine, container, limiter);
            match pre.instantiate_async(&mut store).await {
                Ok(proxy) => Instance { store, proxy, served: 0 },
                Err(error) => return (None, Err(error)),
            }
        }
    };
    instance.served += 1;
    let called = async {
        let Instance { store, proxy, .. } = &mut instance;
        let mut http = store.data_mut().http();
        let request = http
            .new_incoming_request(scheme, request.map(response::into_guest))
            .map_err(|error| wasmtime::Error::from(BadRequest(error.to_string())))?;
        let set = move |answer| *outparam.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        let out = http.new_response_outparam_from_callback(set)?;
        proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
    };
    let called = called.await;
    (Some(instance), called)
}
