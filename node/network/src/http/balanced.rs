//! A connection to a Service whose endpoints answer by function call: each of its requests finds an endpoint of its own,
//! so a kept connection outlives the pod that it first led to.

use std::sync::Arc;

use async_trait::async_trait;
use copepod_node_routes::{ServicePort, Side};
use http::{Request, Response, StatusCode, header};

use super::client::Failure;
use super::{HttpOptions, HttpService, ServiceError};
use crate::body::{Body, full};
use crate::connect::Source;
use crate::error::{HttpError, NetError};
use crate::network::Network;

/// Sends each request of a connection to an endpoint of a Service.
pub(crate) struct Balanced {
    pub(crate) network: Network,
    pub(crate) from: Source,
    pub(crate) side: Side,
    pub(crate) port: Arc<ServicePort>,
}

#[async_trait]
impl HttpService for Balanced {
    async fn handle(&self, mut request: Request<Body>) -> Result<Response<Body>, ServiceError> {
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
            request.headers_mut().remove(name);
        }
        let routes = self.network.routes();
        // Gone or not: whoever has a connection is answered, by 503 if need be.
        let port = routes.again(&self.port).unwrap_or(&self.port);
        let sent =
            self.network.send_to_service(&self.from, self.side, port, None, request, &HttpOptions::default()).await;
        Ok(sent.unwrap_or_else(|failure| {
            let status = match failure {
                Failure::NotSent(..) => StatusCode::SERVICE_UNAVAILABLE,
                Failure::Final(HttpError::ResponseTimeout | HttpError::Connect(NetError::Timeout)) => {
                    StatusCode::GATEWAY_TIMEOUT
                }
                Failure::Final(_) => StatusCode::BAD_GATEWAY,
            };
            let mut response = Response::new(full(format!("{status}\n")));
            *response.status_mut() = status;
            response
        }))
    }
}
