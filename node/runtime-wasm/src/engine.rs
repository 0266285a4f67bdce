//! The one wasmtime engine of a node.

use std::fs;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How many instances a process can hold at once, and what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Instances that can be alive at once.
    pub instances: u32,
    /// Whether they come from the pool, which is much faster; without it address space is short.
    pub pooled: bool,
    /// What the number follows from, for the Node's conditions.
    pub bound_by: String,
}

/// The kernel's default for `vm.max_map_count`.
const DEFAULT_MAX_MAPS: u32 = 65_530;
/// Mappings that one live instance takes: its stack and the stack's guard, its memory's image, heap and reservation.
const MAPS_PER_INSTANCE: u32 = 8;
/// More would not fit into 47 bits of address space, at 4 GiB and a guard each.
const MOST_INSTANCES: u32 = 10_000;
/// Pool sizes to try after the first has failed.
const SMALLER: [u32; 2] = [1_000, 100];

/// Core modules in a component, with what the component encoder adds to connect them.
const MODULES_PER_COMPONENT: u32 = 4;

/// How deep a guest may recurse, in bytes of native stack.
pub(crate) const WASM_STACK: usize = 512 << 10;

pub(crate) fn new() -> Result<(wasmtime::Engine, Capacity), wasmtime::Error> {
    let maps = max_map_count();
    let wanted = (maps / MAPS_PER_INSTANCE).clamp(100, MOST_INSTANCES);
    for instances in std::iter::once(wanted).chain(SMALLER.into_iter().filter(|&size| size < wanted)) {
        match wasmtime::Engine::new(&pooled(instances)) {
            Ok(engine) => {
                let bound_by = match instances == wanted {
                    true if wanted == MOST_INSTANCES => "address space".to_owned(),
                    true => format!("vm.max_map_count={maps}"),
                    false => "the process's limit of address space".to_owned(),
                };
                return Ok((engine, Capacity { instances, pooled: true, bound_by }));
            }
            Err(error) => tracing::warn!(instances, error = %format!("{error:#}"), "no pool of this size"),
        }
    }
    let bound_by = "no address space for a pool of instances".to_owned();
    tracing::warn!(%bound_by, "each instance gets memory of its own, which takes longer");
    let engine = wasmtime::Engine::new(&on_demand())?;
    Ok((engine, Capacity { instances: SMALLER[1], pooled: false, bound_by }))
}

fn max_map_count() -> u32 {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_MAX_MAPS)
}

fn common() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // WASI 0.2 has no concurrency inside an instance; its bookkeeping would cost every request.
    config.concurrency_support(false);
    config.max_wasm_stack(WASM_STACK).async_stack_size(1 << 20);
    config
}

/// For where address space is short: a memory takes what it has and a little to grow, not 4 GiB and a guard, so that its
/// bounds are checked at each access.
fn on_demand() -> Config {
    let mut config = common();
    config
        .memory_reservation(0)
        .memory_reservation_for_growth(4 << 20)
        .memory_guard_size(64 << 10)
        .memory_may_move(true);
    config
}

fn pooled(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(instances).total_stacks(instances).total_tables(instances.saturating_mul(2));
    pool.total_component_instances(instances).total_core_instances(instances.saturating_mul(MODULES_PER_COMPONENT));
    // A component brings several modules; what is rare is refused by the totals, not by these.
    pool.max_core_instances_per_component(100).max_memories_per_component(20).max_tables_per_component(40);
    pool.max_memories_per_module(4).max_tables_per_module(10).max_component_instance_size(4 << 20);
    // Pages that every request writes stay in place and are cleaned instead of unmapped.
    pool.linear_memory_keep_resident(256 << 10).table_keep_resident(16 << 10).async_stack_keep_resident(32 << 10);
    pool.pagemap_scan(Enabled::Auto);
    let mut config = common();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    // Memories begin as their module's own pages, which are copied when they are written to.
    config.memory_init_cow(true);
    config
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn an_engine_comes_with_its_capacity() {
        let limited = rustix::process::getrlimit(rustix::process::Resource::As).current.is_some();
        let end = Instant::now() + Duration::from_secs(60);
        // For the moment the engines of other tests may have taken all the room that there is.
        let capacity = loop {
            let (_engine, capacity) = new().unwrap();
            if capacity.pooled || limited || Instant::now() > end {
                break capacity;
            }
            std::thread::yield_now();
        };
        assert!(capacity.pooled || limited, "{capacity:?}");
        assert!(capacity.instances >= 100);
        assert!(!capacity.bound_by.is_empty());
    }

    /// How little address space it takes the end-to-end tests show, with a limit.
    #[test]
    fn without_a_pool_a_memory_begins_small_and_grows() {
        let engine = wasmtime::Engine::new(&on_demand()).unwrap();
        let wasm = wat::parse_str("(module (memory (export \"m\") 1))").unwrap();
        let module = wasmtime::Module::new(&engine, &wasm).unwrap();
        let mut store = wasmtime::Store::new(&engine, ());
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "m").unwrap();
        assert_eq!(memory.grow(&mut store, 1000).unwrap(), 1);
        memory.write(&mut store, 1000 << 16, b"there").unwrap();
    }
}
