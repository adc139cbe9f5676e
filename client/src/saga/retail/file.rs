//! A file of orders, packed or not, becomes invoices: row by row, bounded by what the invoices themselves take.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use csv::StringRecord;

use super::{
    RetailError, cell,
    invoice::{Invoice, Row, is_service, pence},
};

/// What every zstd frame begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What every gzip file begins with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The largest window that is unpacked: 128 MiB, as `zstd -d` without flags.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The longest row. Those of the year have fewer than 200 bytes.
const ROW_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 256 << 10;

const COLUMNS: [&str; 8] =
    ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"];
const INVOICE: usize = 0;
const CODE: usize = 1;
const DESCRIPTION: usize = 2;
const QUANTITY: usize = 3;
const TIME: usize = 4;
const PRICE: usize = 5;
const CUSTOMER: usize = 6;
const COUNTRY: usize = 7;

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<File, RetailError> {
    let refused = |source| RetailError::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(refused)?;
    if file.metadata().map_err(refused)?.is_dir() {
        return Err(refused(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")));
    }
    Ok(file)
}

/// All invoices, in the order of their first lines. What is packed is known by its first bytes, not by its name.
pub(super) fn invoices(input: impl Read) -> Result<Vec<Invoice>, RetailError> {
    let at_start = |source| RetailError::Read { line: 1, source };
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let begin = input.fill_buf().map_err(at_start)?;
    if begin.starts_with(&GZIP_MAGIC) {
        return Err(RetailError::Packing { found: "packed with gzip; unpack it first" });
    }
    if !begin.starts_with(&ZSTD_MAGIC) {
        return gather(input);
    }
    let mut decoder = zstd::Decoder::with_buffer(input).map_err(at_start)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(at_start)?;
    gather(decoder)
}

fn gather(input: impl Read) -> Result<Vec<Invoice>, RetailError> {
    let watched = Watched { input, row_bytes: 0, quotes: 0, has_ended: false };
    let mut rows = csv::ReaderBuilder::new().buffer_capacity(BUFFER_BYTES).from_reader(watched);
    let places = columns(rows.headers().map_err(|error| RetailError::from_csv(error, 1))?)?;
    let mut gathered = Gathered::default();
    let mut row = StringRecord::new();
    loop {
        rows.get_mut().row_bytes = 0;
        let line = rows.position().line();
        if !rows.read_record(&mut row).map_err(|error| RetailError::from_csv(error, line))? {
            return Ok(gathered.invoices);
        }
        let line = row.position().map_or(line, csv::Position::line);
        // Such a row is well formed to the parser: its last cell has swallowed the rest of the file.
        if rows.get_ref().has_open_quote() && row.iter().next_back().is_some_and(|cell| cell.contains('\n')) {
            return Err(RetailError::OpenQuote { line });
        }
        gathered.take(line, &Cells { row: &row, places: &places })?;
    }
}

/// Where each column stands.
fn columns(header: &StringRecord) -> Result<[usize; 8], RetailError> {
    let mut places = [0; 8];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let mut named = header.iter().enumerate().filter(|(_, name)| *name == column).map(|(at, _)| at);
        let missing = || RetailError::NoColumn { column, found: header.iter().map(str::to_owned).collect() };
        *place = named.next().ok_or_else(missing)?;
        if named.next().is_some() {
            return Err(RetailError::TwoColumns { column });
        }
    }
    Ok(places)
}

/// The cells of one row by the names of their columns.
struct Cells<'a> {
    row: &'a StringRecord,
    places: &'a [usize; 8],
}

impl<'a> Cells<'a> {
    fn get(&self, column: usize) -> &'a str {
        // The parser has compared the number of cells with the header's.
        self.row.get(self.places[column]).unwrap_or_default()
    }

    /// The cell read by this rule, or what is wrong with it.
    fn read<T>(
        &self,
        line: u64,
        column: usize,
        rule: fn(&'a str) -> Option<T>,
        expected: &'static str,
    ) -> Result<T, RetailError> {
        let text = self.get(column);
        rule(text).ok_or_else(|| RetailError::cell(line, COLUMNS[column], text, expected))
    }
}

/// Invoices so far.
#[derive(Default)]
struct Gathered {
    invoices: Vec<Invoice>,
    places: HashMap<String, usize>,
    /// Neighbours mostly have the same time: it is read once.
    time: Option<(String, i64)>,
    /// Of the invoice of the row before.
    last: usize,
}

impl Gathered {
    fn take(&mut self, line: u64, cells: &Cells<'_>) -> Result<(), RetailError> {
        let (id, country) = (cells.get(INVOICE), cells.get(COUNTRY));
        let time_us = self.time_us(line, cells)?;
        let customer = cells.read(line, CUSTOMER, cell::customer, cell::CUSTOMER)?;
        let row = row(line, time_us, cells)?;
        let known = match self.invoices.get(self.last) {
            Some(invoice) if invoice.id == id => Some(self.last),
            _ => self.places.get(id).copied(),
        };
        if let Some(place) = known {
            let invoice = &mut self.invoices[place];
            same(line, CUSTOMER, id, customer, invoice.customer.as_deref().unwrap_or_default())?;
            same(line, COUNTRY, id, country, &invoice.country)?;
            invoice.rows.push(row);
            self.last = place;
            return Ok(());
        }
        self.last = self.invoices.len();
        self.places.insert(id.to_owned(), self.last);
        self.invoices.push(Invoice {
            id: id.to_owned(),
            file_line: line,
            time_us,
            customer: Some(customer).filter(|number| !number.is_empty()).map(str::to_owned),
            country: country.to_owned(),
            rows: vec![row],
        });
        Ok(())
    }

    fn time_us(&mut self, line: u64, cells: &Cells<'_>) -> Result<i64, RetailError> {
        let text = cells.get(TIME);
        if let Some((known, time_us)) = &self.time
            && known == text
        {
            return Ok(*time_us);
        }
        let time_us = cells.read(line, TIME, cell::time_us, cell::TIME)?;
        self.time = Some((text.to_owned(), time_us));
        Ok(time_us)
    }
}

fn row(line: u64, time_us: i64, cells: &Cells<'_>) -> Result<Row, RetailError> {
    let written = cells.read(line, CODE, cell::code, cell::CODE)?;
    let units = cells.read(line, QUANTITY, cell::quantity, cell::QUANTITY)?;
    let mills = cells.read(line, PRICE, cell::mills, cell::PRICE)?;
    let code = written.to_uppercase();
    Ok(Row {
        file_line: line,
        time_us,
        service: is_service(&code),
        written: (code != written).then(|| written.to_owned()),
        code,
        description: cells.get(DESCRIPTION).to_owned(),
        units,
        mills,
        pence: pence(units, mills).ok_or(RetailError::TooLarge { line, what: "quantity x price" })?,
    })
}

fn same(line: u64, column: usize, invoice: &str, value: &str, first: &str) -> Result<(), RetailError> {
    if value == first {
        return Ok(());
    }
    let (invoice, value, first) = (invoice.to_owned(), value.to_owned(), first.to_owned());
    Err(RetailError::Differs { line, column: COLUMNS[column], invoice, value, first })
}

/// Bounds a row, and counts quotes: the parser does not tell of one that is never closed.
struct Watched<R> {
    input: R,
    row_bytes: usize,
    quotes: usize,
    has_ended: bool,
}

impl<R> Watched<R> {
    fn has_open_quote(&self) -> bool {
        self.has_ended && !self.quotes.is_multiple_of(2)
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.row_bytes > ROW_BYTES_MAX {
            let wrong = format!("a row is longer than {ROW_BYTES_MAX} bytes; is a quote left open?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, wrong));
        }
        let count = self.input.read(buffer)?;
        self.quotes += buffer[..count].iter().map(|byte| usize::from(*byte == b'"')).sum::<usize>();
        self.row_bytes += count;
        self.has_ended = count == 0;
        Ok(count)
    }
}
