//! What a module can run besides that for which it is started: its other exported commands.

use wasmtime::component::{Component, ComponentExportIndex, types::ComponentItem};
use wasmtime::{AsContextMut, Engine, ValType, component};

/// The command of a component that is run or served.
pub(crate) const RUN: &str = "wasi:cli/run";

/// The commands that a component exports: each name, with the function.
pub(crate) type Exports = Vec<(String, ComponentExportIndex)>;

/// All commands among a component's exports: instances with a function `run`, and functions by themselves, that take
/// nothing and answer a `result`.
pub(crate) fn of_component(engine: &Engine, component: &Component) -> Exports {
    let ty = component.component_type();
    let mut all = Exports::new();
    for (name, export) in ty.exports(engine) {
        let index = match export.ty {
            ComponentItem::ComponentFunc(f) if is_command(&f) => component.get_export_index(None, name),
            ComponentItem::ComponentInstance(instance) => instance
                .exports(engine)
                .any(|(inner, e)| inner == "run" && matches!(&e.ty, ComponentItem::ComponentFunc(f) if is_command(f)))
                .then(|| component.get_export_index(component.get_export_index(None, name).as_ref(), "run"))
                .flatten(),
            _ => None,
        };
        all.extend(index.map(|index| (name.to_owned(), index)));
    }
    all
}

fn is_command(function: &component::types::ComponentFunc) -> bool {
    let mut results = function.results();
    let answer = (results.next(), results.next());
    function.params().len() == 0
        && !function.async_()
        && matches!(answer, (Some(component::Type::Result(r)), None) if r.ok().is_none() && r.err().is_none())
}

fn versionless(export: &str) -> &str {
    export.split_once('@').map_or(export, |(path, _)| path)
}

/// The export that `name` means: all of its name, that without the version, or the last part of that.
pub(crate) fn find<'a, T>(all: &'a [(String, T)], name: &str) -> Option<&'a T> {
    let whole = |export: &str| export == name || versionless(export) == name;
    let last = |export: &str| versionless(export).rsplit('/').next() == Some(name);
    let found = all.iter().find(|(export, _)| whole(export)).or_else(|| all.iter().find(|(export, _)| last(export)));
    found.map(|(_, export)| export)
}

/// Runs a component's command.
pub(crate) async fn call<T: Send + 'static>(
    pre: &component::InstancePre<T>,
    mut store: impl AsContextMut<Data = T>,
    export: &ComponentExportIndex,
) -> wasmtime::Result<i32> {
    let instance = pre.instantiate_async(&mut store).await?;
    let command = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut store, export)?;
    let (ended,) = command.call_async(&mut store, ()).await?;
    Ok(i32::from(ended.is_err()))
}

/// Whether a core module exports a command of this name: a function that takes nothing and answers nothing, or an exit code.
/// Those that toolchains make for themselves begin with an underscore.
pub(crate) fn is_core_command(module: &wasmtime::Module, name: &str) -> bool {
    let ty = module.get_export(name).and_then(|export| export.func().cloned());
    !name.starts_with('_')
        && ty.is_some_and(|ty| {
            let results: Vec<_> = ty.results().collect();
            ty.params().len() == 0 && matches!(results[..], [] | [ValType::I32])
        })
}

/// Runs an exported function of a core module: a command of its own, or `_start`.
pub(crate) async fn call_core<T: Send + 'static>(
    pre: &wasmtime::InstancePre<T>,
    mut store: impl AsContextMut<Data = T>,
    name: &str,
) -> wasmtime::Result<i32> {
    let instance = pre.instantiate_async(&mut store).await?;
    if let Ok(command) = instance.get_typed_func::<(), i32>(&mut store, name) {
        return command.call_async(&mut store, ()).await;
    }
    let command = instance.get_typed_func::<(), ()>(&mut store, name)?;
    command.call_async(&mut store, ()).await?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn whole_names_come_before_their_ends() {
        let all = [("acme:shop/check@1.0.0", 1), ("acme:jobs/check", 2), ("check", 3), ("acme:shop/migrate@2.1.0", 4)];
        let all = all.map(|(name, n)| (name.to_owned(), n));
        let wanted = [("check", 3), ("acme:shop/check", 1), ("acme:jobs/check", 2), ("migrate", 4)];
        for (name, n) in wanted {
            assert_eq!(find(&all, name), Some(&n), "{name}");
        }
        assert_eq!(find(&all, "acme:shop/migrate@2.1.0"), Some(&4));
        for name in ["", "shop", "shop/migrate", "migrate@2.1.0", "acme:shop/check@2.0.0"] {
            assert_eq!(find(&all, name), None, "{name}");
        }
    }
}
