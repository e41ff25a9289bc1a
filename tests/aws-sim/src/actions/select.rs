//! What every Describe does: things by their ids, or all of the caller's; filtered; a page of them.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::page::Page;
use crate::params::Input;

/// Which things a Describe is asked for.
pub(super) struct Selection<'a, T, Id> {
    ids: Vec<Id>,
    filters: Filters<'a, T>,
    page: Page,
}

impl<'a, T, Id: Borrow<str>> Selection<'a, T, Id> {
    /// Reads `NAME.N` for the ids, the filters and the page. The last that an action reads: it calls
    /// [`Input::finish`].
    pub(super) fn read(
        input: &Input<'_>,
        name: &str,
        id: fn(&str) -> Result<Id>,
        field: impl Fn(&str) -> Option<Field<'a, T>>,
    ) -> Result<Selection<'a, T, Id>> {
        let asked = input.list(name);
        let filters = Filters::read(input, field)?;
        let page = Page::read(input, name, 5..=1000)?;
        input.finish()?;
        let ids = asked.into_iter().map(id).collect::<Result<_>>()?;
        Ok(Selection { ids, filters, page })
    }

    /// Those that are asked for, in the order of `all`, and the token of the next page. `all` and `find` know only
    /// the caller's own; `all` is in the order of ids.
    ///
    /// # Errors
    /// `missing`, when one that is asked for by its id is not there.
    pub(super) fn choose<'w>(
        &self,
        all: impl IntoIterator<Item = &'w T>,
        find: impl Fn(&Id) -> Option<&'w T>,
        missing: impl Fn(&str) -> Ec2Error,
        id: impl Fn(&T) -> &str,
    ) -> Result<(Vec<&'w T>, Option<String>)> {
        if self.ids.is_empty() {
            return Ok(self.cut(all, id));
        }
        let mut known = BTreeSet::new();
        let once = self.ids.iter().filter(|id| known.insert((*id).borrow()));
        let found = once.map(|id| find(id).ok_or_else(|| missing(id.borrow())));
        Ok(self.cut(found.collect::<Result<Vec<_>>>()?, id))
    }

    fn cut<'w>(
        &self,
        things: impl IntoIterator<Item = &'w T>,
        id: impl Fn(&T) -> &str,
    ) -> (Vec<&'w T>, Option<String>) {
        let matching = things
            .into_iter()
            .filter(|thing| self.filters.matches(thing));
        self.page.cut(matching.collect(), |thing| id(thing))
    }
}

impl<'a, T> Selection<'a, T, String> {
    /// The same for things that are not asked for by ids.
    pub(super) fn read_all(
        input: &Input<'_>,
        field: impl Fn(&str) -> Option<Field<'a, T>>,
    ) -> Result<Selection<'a, T, String>> {
        let filters = Filters::read(input, field)?;
        let page = Page::read(input, "", 5..=1000)?;
        input.finish()?;
        Ok(Selection {
            ids: Vec::new(),
            filters,
            page,
        })
    }

    /// Those that match, in the order of `all`, which is that of ids; and the token of the next page.
    pub(super) fn choose_all<'w>(
        &self,
        all: impl IntoIterator<Item = &'w T>,
        id: impl Fn(&T) -> &str,
    ) -> (Vec<&'w T>, Option<String>) {
        self.cut(all, id)
    }
}
