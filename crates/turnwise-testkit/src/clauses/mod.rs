//! The clauses of `docs/semantics.md`, each one named check that runs on every engine.

mod attempts;
mod counting;
mod crowds;
mod dedup;
mod effects;
mod hangs;
mod lanes;
mod leases;
mod pages;
mod schedule;
mod topics;
mod whole;

use crate::harness::Harness;
use crate::trial::Ran;
use futures_core::future::BoxFuture;

/// A clause: holds or is broken on one engine, or cannot run on it.
pub type Clause = for<'a> fn(&'a dyn Harness) -> BoxFuture<'a, Ran>;

/// Calls a macro with the list of all clauses as `path name;` pairs. The one
/// place where a clause is entered.
#[macro_export]
macro_rules! for_each_clause {
    ($callback:path $(, $($extra:tt)*)?) => {
        $callback! { [$($($extra)*)?]
            lanes q01_enqueued_messages_survive_a_crash;
            lanes q02_a_key_is_first_in_first_out;
            leases q03_one_live_lease_per_key;
            leases q04_tokens_only_rise;
            leases q05_a_dead_lease_changes_nothing;
            leases q06_a_lapsed_lease_returns_the_same_message;
            crowds q06_a_crowd_of_lapsed_leases_returns;
            attempts q07_attempts_count_leases_and_end_dead;
            attempts q08_a_retry_keeps_its_place;
            lanes q09_priority_orders_heads_only;
            schedule q10_a_due_message_joins_the_tail;
            crowds q10_a_crowd_that_falls_due_lines_up;
            dedup q11_a_repeat_within_the_window_is_one_message;
            effects q12_effects_happen_exactly_once;
            counting q13_nothing_vanishes;
            counting q14_redrive_remove_and_expiry;
            crowds q14_a_crowd_past_its_time_ends_step_by_step;
            counting q15_batches_are_checked_first_and_answered_apart;
            whole q16_delivery_needs_no_wake_up;
            whole q17_a_backlog_delays_no_other_key;
            leases q18_a_stop_request_reaches_the_holder;
            topics t1_offsets_rise_by_one;
            topics t2_reading_again_gives_the_same;
            pages t2_a_page_is_bounded_and_the_next_goes_on;
            topics t3_a_lost_place_answers_gap;
            topics t4_a_repeated_append_is_one_event;
            topics t5_a_cursor_moves_by_compare_and_set;
            topics t6_latest_then_append_loses_nothing;
            topics t7_trim_never_moves_offsets;
            whole x1_a_crash_changes_nothing;
            whole x2_an_unknown_answer_is_safe_to_repeat;
            hangs x2_a_store_that_hangs_answers_in_time;
            whole x4_a_clock_step_back_changes_no_order;
        }
    };
}

macro_rules! registry {
    ([] $($file:ident $name:ident;)*) => {
        /// Every clause with its name, in the order of the contract.
        pub const ALL: &[(&str, Clause)] = &[
            $((stringify!($name), |harness| Box::pin(async { Ran::from($file::$name(harness).await) }))),*
        ];
    };
}
for_each_clause!(registry);
