//! An invoice: all lines with its number, wherever in the file they stand, and what kind of business it is.

use super::{RetailError, cell};

/// All lines with one number.
#[derive(Debug)]
pub(super) struct Invoice {
    pub(super) id: String,
    /// Where its first line stands in the file.
    pub(super) file_line: u64,
    /// Of its first line: a few invoices go on into the next minute.
    pub(super) time_us: i64,
    pub(super) customer: Option<String>,
    pub(super) country: String,
    pub(super) rows: Vec<Row>,
}

/// A line of an invoice. Its number is its place in [`Invoice::rows`], from 1.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) file_line: u64,
    pub(super) time_us: i64,
    /// In upper case.
    pub(super) code: String,
    /// As it was written, where that is another way.
    pub(super) written: Option<String>,
    pub(super) description: String,
    pub(super) units: i64,
    pub(super) mills: i64,
    pub(super) pence: i64,
    /// Its code stands for no goods.
    pub(super) service: bool,
}

/// What kind of business an invoice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A customer bought something.
    Order,
    /// Goods were lost, broken, thrown away.
    StockDown,
    /// Goods were found, or came in without a price.
    StockUp,
    /// What the marketplace takes.
    Fee,
    /// Money that will not come.
    BadDebt,
    /// A customer gets something back.
    Credit,
}

impl Row {
    /// The code as it was written.
    pub(super) fn written(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.code)
    }
}

impl Invoice {
    /// The rules of the saga's page, in its order, and what must hold for each kind.
    ///
    /// **Errors**: a number that is of no kind; a price or a quantity that its kind cannot have.
    pub(super) fn kind(&self) -> Result<Kind, RetailError> {
        let kind = match self.id.split_at_checked(1) {
            Some(("C", number)) if cell::is_number(number) => Kind::Credit,
            Some(("A", number)) if cell::is_number(number) => Kind::BadDebt,
            _ if cell::is_number(&self.id) => self.trade(),
            _ => {
                let expected = "an invoice's number: digits, or C (credit) or A (bad debt) and digits";
                return Err(RetailError::cell(self.file_line, "InvoiceNo", &self.id, expected));
            }
        };
        for row in &self.rows {
            if kind == Kind::Credit && row.units > 0 {
                let expected = "a negative number, as on every line of a credit";
                return Err(RetailError::cell(row.file_line, "Quantity", &row.units.to_string(), expected));
            }
            if kind != Kind::BadDebt && row.mills < 0 {
                let expected = "a price of 0 or more, as on every invoice but a bad debt";
                return Err(RetailError::cell(row.file_line, "UnitPrice", &in_pounds(row.mills), expected));
            }
        }
        Ok(kind)
    }

    fn trade(&self) -> Kind {
        let all = |rule: fn(&Row) -> bool| self.rows.iter().all(rule);
        if !all(|row| row.units > 0) {
            Kind::StockDown
        } else if self.customer.is_none() && all(|row| row.mills == 0) {
            Kind::StockUp
        } else if all(|row| row.code == "AMAZONFEE") {
            Kind::Fee
        } else {
            Kind::Order
        }
    }
}

/// Whether a code, in upper case, stands for postage, carriage, a discount, a fee, a gift to charity.
pub(super) fn is_service(code: &str) -> bool {
    matches!(code, "POST" | "DOT" | "C2" | "M" | "D" | "S" | "B" | "BANK CHARGES" | "AMAZONFEE" | "CRUK")
}

/// What so many units at this price come to in pence, rounded half up; a negative amount is the negative of what the
/// positive one comes to.
pub(super) fn pence(units: i64, mills: i64) -> Option<i64> {
    let amount = i128::from(units) * i128::from(mills);
    // The line's own arithmetic is in mills and adds before it divides.
    i64::try_from(amount.abs() + 5).ok()?;
    i64::try_from((amount.abs() + 5) / 10 * amount.signum()).ok()
}

fn in_pounds(mills: i64) -> String {
    let sign = if mills < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", mills.unsigned_abs() / 1_000, mills.unsigned_abs() % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_half_up_to_pence() {
        for (units, mills, expected) in [
            (6, 2_550, Some(1_530)),
            (1, 1, Some(0)),
            (4, 1, Some(0)),
            (5, 1, Some(1)),
            (3, 335, Some(101)),
            (-6, 2_550, Some(-1_530)),
            (-3, 335, Some(-101)),
            (1, -11_062_060, Some(-1_106_206)),
            (i64::MAX, 1, None),
            (1 << 40, 1 << 40, None),
        ] {
            assert_eq!(pence(units, mills), expected, "{units} at {mills}");
        }
    }

    #[test]
    fn a_price_is_said_in_pounds() {
        assert_eq!(in_pounds(-11_062_060), "-11062.060");
        assert_eq!(in_pounds(-1), "-0.001");
    }
}
