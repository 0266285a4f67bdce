//! From bytes to modules.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::fixture::{Node, example, get};
use crate::{CompileError, Kind, Module, Runtime, RuntimeConfig};

/// Compiles under a digest of its own, as another content has.
async fn compile(node: &Node, wasm: Vec<u8>) -> Result<Arc<Module>, CompileError> {
    let digest = ring::digest::digest(&ring::digest::SHA256, &wasm);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    node.runtime.compile(&format!("sha256:{hex}"), wasm.into()).await
}

async fn error(node: &Node, wat: &str) -> CompileError {
    compile(node, wat::parse_str(wat).unwrap()).await.unwrap_err()
}

#[tokio::test]
async fn exports_decide_the_kind() {
    let node = Node::new();
    assert_eq!(node.module("hello").await.kind(), Kind::Http);
    assert_eq!(node.module("tcp-echo").await.kind(), Kind::Command);
    assert_eq!(node.module("preview1").await.kind(), Kind::Preview1);
}

#[tokio::test]
async fn missing_imports_are_named_with_their_versions() {
    let node = Node::new();
    let error_text = error(&node, r#"(component (import "acme:db/query@1.2.3" (instance)))"#).await.to_string();
    assert_eq!(error_text, "imports acme:db/query@1.2.3, which this host does not have");
    let newer = error(&node, r#"(component (import "wasi:io/poll@0.3.0" (instance)))"#).await.to_string();
    assert_eq!(newer, "imports wasi:io/poll@0.3.0, which this host does not have");
    let module = r#"(module (import "env" "f" (func)) (func (export "_start")))"#;
    assert_eq!(error(&node, module).await, CompileError::MissingImports(vec!["env.f".to_owned()]));
}

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let node = Node::new();
    assert!(matches!(error(&node, "(module)").await, CompileError::NothingToRun(_)));
    let component = error(&node, "(component)").await.to_string();
    assert!(component.contains("exports nothing"), "{component}");
    for garbage in ["", "#!/bin/sh", "\0asm", "\0asm\u{1}\0\0\0garbage"] {
        let error = compile(&node, garbage.into()).await.unwrap_err();
        assert!(matches!(error, CompileError::Invalid(_)), "{garbage:?}: {error:?}");
    }
    let missing = node.runtime.compile_file("sha256:0", &PathBuf::from("/nowhere.wasm")).await.unwrap_err();
    assert!(matches!(missing, CompileError::Read(..)));
}

#[tokio::test]
async fn all_who_ask_for_a_digest_get_the_same_module() {
    let node = Node::new();
    let modules = futures_util::future::join_all((0..10).map(|_| node.module("preview1"))).await;
    assert!(modules.iter().all(|module| Arc::ptr_eq(module, &modules[0])));
}

/// The artifact files of a node, with its tags.
fn artifacts(node: &Node) -> Vec<PathBuf> {
    let folders = fs::read_dir(node.dir.path().join("compiled")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.into_iter().find(|path| path.is_dir()).unwrap();
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_restart_takes_the_artifact_and_not_the_source() {
    let node = Node::new();
    node.module("hello").await;
    assert_eq!(artifacts(&node).len(), 2);
    let again = Runtime::new(&RuntimeConfig::new(node.dir.path())).unwrap();
    let module = again.compile_file("sha256:hello", &PathBuf::from("/nowhere.wasm")).await.unwrap();
    assert_eq!(module.kind(), Kind::Http);
}

#[tokio::test]
async fn a_forged_artifact_is_not_run_but_replaced() {
    let node = Node::new();
    drop(node.module("hello").await);
    let artifact = artifacts(&node).into_iter().find(|path| path.extension().unwrap() == "cwasm").unwrap();
    let honest = fs::read(&artifact).unwrap();
    // Another program, compiled by the same wasmtime: its only fault is that this node did not make it.
    let elsewhere = Node::new();
    drop(elsewhere.module("preview1").await);
    let forged = artifacts(&elsewhere).into_iter().find(|path| path.extension().unwrap() == "cwasm").unwrap();
    fs::copy(&forged, &artifact).unwrap();
    fs::copy(forged.with_extension("tag"), artifact.with_extension("tag")).unwrap();
    let hello = node.start_module(node.runtime.compile_file("sha256:hello", &example("hello")).await.unwrap(), |_| {});
    let response = hello.container.handler().unwrap().handle(get("/")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(fs::read(&artifact).unwrap(), honest);
}
