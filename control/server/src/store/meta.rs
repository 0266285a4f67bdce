//! What both databases say about themselves: their format, and whose they are.

use copepod_consensus::record::{Record, unseal};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::FORMAT;
use super::error::Fault;

pub(super) const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const MEMBER: &str = "member";

/// Whether the database was set up; a first start may have been cut off before.
pub(super) fn is_ready(db: &Database) -> Result<bool, Fault> {
    match db.begin_read()?.open_table(TABLE) {
        Ok(_) => Ok(true),
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Says what the database is.
pub(super) fn init(table: &mut Table<'_, &str, &[u8]>, id: u64) -> Result<(), redb::Error> {
    table.insert(FORMAT_KEY, FORMAT.to_le_bytes().as_slice())?;
    table.insert(MEMBER, id.to_le_bytes().as_slice())?;
    Ok(())
}

/// Checks that the database is of a known format and of member `id`.
pub(super) fn check(table: &impl ReadableTable<&'static str, &'static [u8]>, id: u64) -> Result<(), Fault> {
    let format = u32::from_le_bytes(number(table, FORMAT_KEY)?);
    if format > FORMAT {
        return Err(Fault::Newer(format));
    }
    if format < FORMAT {
        return Err(Fault::Damaged(format!("its format is {format}, and that of its folder {FORMAT}")));
    }
    let member = u64::from_le_bytes(number(table, MEMBER)?);
    if member != id {
        return Err(Fault::Damaged(format!("it is of member {member}, not {id}")));
    }
    Ok(())
}

/// The member whose database it is.
pub(super) fn member(db: &impl ReadableDatabase) -> Result<u64, Fault> {
    let txn = db.begin_read()?;
    Ok(u64::from_le_bytes(number(&txn.open_table(TABLE)?, MEMBER)?))
}

/// Says that the database has another format from now on.
pub(super) fn set_format(txn: &WriteTransaction, format: u32) -> Result<(), Fault> {
    txn.open_table(TABLE)?.insert(FORMAT_KEY, format.to_le_bytes().as_slice())?;
    Ok(())
}

/// Reads a raft value.
pub(super) fn sealed<M: Record>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<M, Fault> {
    let bytes = table.get(name)?.ok_or_else(|| Fault::Damaged(format!("`{name}` is missing")))?;
    unseal(0, bytes.value()).map_err(|e| Fault::Damaged(format!("`{name}`: {e}")))
}

fn number<const N: usize>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<[u8; N], Fault> {
    let bytes = table.get(name)?.ok_or_else(|| Fault::Damaged(format!("`{name}` is missing")))?;
    bytes.value().try_into().map_err(|_| Fault::Damaged(format!("`{name}` has the wrong length")))
}
