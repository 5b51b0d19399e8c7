//! The assignment problem: partners for all rows of a matrix, no column twice, that cost least in
//! sum (what SciPy's `linear_sum_assignment` solves).
//!
//! # The algorithm
//!
//! Shortest augmenting paths (Jonker and Volgenant; Crouse, 2016). Prices `u` of rows and `v` of
//! columns are kept such that no pair costs less than both prices together, and every pair that is
//! matched costs exactly as much: then no matching can be cheaper. To begin, every row bids its least
//! cost, and takes that column if it is free. For each row that is left, Dijkstra's search over
//! columns, in costs less prices, finds the cheapest way to a free one, along which all partners
//! change; prices follow.
//!
//! A search looks at all columns once for each row that it passes: `n² m` looks at worst. Where most
//! rows have a column of their own, as latents have a feature, few rows need a search, and it passes
//! a few rows: 4,096 × 16,384 takes seconds.

/// For each of the `n` rows of `cost` `[n, m]`, `n ≤ m`, its column.
pub fn assign(cost: &[f32], n: usize, m: usize) -> Vec<usize> {
    let mut search = Search::new(cost, n, m);
    let alone: Vec<usize> = (0..n).filter(|&row| !search.bid(row)).collect();
    alone.into_iter().for_each(|row| search.match_row(row));
    search.column_of.iter().map(|&column| column as usize).collect()
}

/// No row, or no column.
const NONE: u32 = u32::MAX;

struct Search<'a> {
    cost: &'a [f32],
    m: usize,
    rows: Vec<f64>,
    columns: Vec<f64>,
    column_of: Vec<u32>,
    row_of: Vec<u32>,
    /// Of each column the cheapest way there that this search has found, and the row before it.
    distance: Vec<f64>,
    from: Vec<u32>,
}

impl Search<'_> {
    fn new(cost: &[f32], n: usize, m: usize) -> Search<'_> {
        assert!(n <= m && cost.len() == n * m, "no partners for {n} rows among {m} columns");
        Search {
            cost,
            m,
            rows: vec![0.0; n],
            columns: vec![0.0; m],
            column_of: vec![NONE; n],
            row_of: vec![NONE; m],
            distance: vec![0.0; m],
            from: vec![NONE; m],
        }
    }

    fn costs(&self, row: usize) -> &[f32] {
        &self.cost[row * self.m..][..self.m]
    }

    /// Prices a row at its least cost, and matches it if that column is free.
    fn bid(&mut self, row: usize) -> bool {
        let costs = self.costs(row).iter().enumerate();
        let least = costs.min_by(|a, b| a.1.total_cmp(b.1)).map(|(column, cost)| (column, *cost));
        let Some((column, cost)) = least else { return false };
        self.rows[row] = f64::from(cost);
        let is_free = self.row_of[column] == NONE;
        if is_free {
            (self.row_of[column], self.column_of[row]) = (row as u32, column as u32);
        }
        is_free
    }

    /// Finds a column for a row that has none.
    fn match_row(&mut self, first: usize) {
        self.distance.fill(f64::INFINITY);
        let mut left: Vec<u32> = (0..self.m as u32).collect();
        let (mut seen_rows, mut seen_columns) = (vec![first], Vec::new());
        let (mut row, mut low) = (first, 0.0);
        let last = loop {
            let base = low - self.rows[row];
            let costs = &self.cost[row * self.m..][..self.m];
            let mut best = (f64::INFINITY, false, 0);
            for (place, &column) in left.iter().enumerate() {
                let at = column as usize;
                let way = base + f64::from(costs[at]) - self.columns[at];
                if way < self.distance[at] {
                    (self.distance[at], self.from[at]) = (way, row as u32);
                }
                let is_free = self.row_of[at] == NONE;
                let distance = self.distance[at];
                // Of equally near ones a free column ends the search.
                if distance < best.0 || distance == best.0 && is_free && !best.1 {
                    best = (distance, is_free, place);
                }
            }
            low = best.0;
            let column = left.swap_remove(best.2) as usize;
            seen_columns.push(column);
            match self.row_of[column] {
                NONE => break column,
                next => row = next as usize,
            }
            seen_rows.push(row);
        };
        self.rows[first] += low;
        for &row in &seen_rows[1..] {
            self.rows[row] += low - self.distance[self.column_of[row] as usize];
        }
        for column in seen_columns {
            self.columns[column] -= low - self.distance[column];
        }
        let mut column = last;
        loop {
            let row = self.from[column] as usize;
            self.row_of[column] = row as u32;
            let before = std::mem::replace(&mut self.column_of[row], column as u32);
            if row == first {
                return;
            }
            column = before as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::draws::{Key, Purpose};
    use super::*;

    /// The least sum over all ways, one by one.
    fn naive(cost: &[f32], n: usize, m: usize, row: usize, taken: &mut Vec<bool>) -> f64 {
        if row == n {
            return 0.0;
        }
        let mut least = f64::INFINITY;
        for column in 0..m {
            if !taken[column] {
                taken[column] = true;
                let rest = naive(cost, n, m, row + 1, taken);
                least = least.min(f64::from(cost[row * m + column]) + rest);
                taken[column] = false;
            }
        }
        least
    }

    fn sum(cost: &[f32], m: usize, columns: &[usize]) -> f64 {
        columns.iter().enumerate().map(|(row, column)| f64::from(cost[row * m + column])).sum()
    }

    fn is_one_to_one(columns: &[usize], m: usize) -> bool {
        let mut taken = vec![false; m];
        columns.iter().all(|&column| !std::mem::replace(&mut taken[column], true))
    }

    #[test]
    fn no_other_way_is_cheaper() {
        let key = Key::new(Purpose::Rows, [0, 0]);
        for (case, (n, m)) in (0..300).map(|i| (i, [(1, 1), (3, 3), (4, 7), (6, 6)][i % 4])) {
            let mut draws = key.stream(case as u64);
            // Of a few values, so that many ways are equally cheap.
            let values = [4, 10, 1_000][case % 3];
            let cost: Vec<f32> = (0..n * m).map(|_| draws.below(values) as f32 / 7.0).collect();
            let found = assign(&cost, n, m);
            assert!(is_one_to_one(&found, m));
            let least = naive(&cost, n, m, 0, &mut vec![false; m]);
            assert!((sum(&cost, m, &found) - least).abs() < 1e-5, "{n} x {m}: {found:?}");
        }
    }

    /// Prices prove that a matching is the cheapest, of any size.
    #[test]
    fn prices_prove_a_large_one() {
        let (n, m) = (150, 400);
        let mut draws = Key::new(Purpose::Rows, [7, 0]).stream(0);
        let cost: Vec<f32> = (0..n * m).map(|_| draws.uniform() as f32).collect();
        let mut search = Search::new(&cost, n, m);
        let alone: Vec<usize> = (0..n).filter(|&row| !search.bid(row)).collect();
        assert!(alone.len() > 10, "rows compete");
        alone.into_iter().for_each(|row| search.match_row(row));
        for row in 0..n {
            for column in 0..m {
                let slack =
                    f64::from(cost[row * m + column]) - search.rows[row] - search.columns[column];
                assert!(slack > -1e-9);
                let is_matched = search.column_of[row] as usize == column;
                assert!(!is_matched || slack < 1e-9);
            }
        }
        assert!(
            search
                .columns
                .iter()
                .zip(&search.row_of)
                .all(|(price, row)| { *price <= 0.0 && (*row != NONE || *price == 0.0) })
        );
    }
}
