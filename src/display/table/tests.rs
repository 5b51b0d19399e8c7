use super::*;

fn evaluation() -> Table {
    Table::new(
        "Held-out text",
        &[Column::text("metric"), Column::number("SAE"), Column::number("TSAE")],
    )
    .with(
        Row::new("NMSE")
            .defined("mean of ‖x̂ − x‖² / ‖x‖²")
            .lowest_is_best()
            .number(0.0412)
            .number(0.0131),
    )
    .with(Row::new("dead").defined("never fired").lowest_is_best().percent(0.089).percent(0.415))
    .with(Row::new("L0").number(16.0).number(16.0))
    .with(Row::new("lookup").missing().text("learned"))
    .caption("51 k tokens")
}

#[test]
fn text_is_aligned_and_footnoted() {
    let want = "\
Held-out text

metric     SAE     TSAE
───────────────────────
NMSE ¹  0.0412  *0.0131
dead ²  *8.9 %   41.5 %
L0        16.0     16.0
lookup       –  learned

51 k tokens

¹ mean of ‖x̂ − x‖² / ‖x‖²
² never fired
";
    assert_eq!(evaluation().text(), want);
}

#[test]
fn markdown_has_footnotes_and_bold_numbers_and_no_markup_of_others() {
    let want = "\
| metric | SAE | TSAE |
| --- | ---: | ---: |
| NMSE ¹ | 0.0412 | **0.0131** |
| dead ² | **8.9 %** | 41.5 % |
| L0 | 16.0 | 16.0 |
| lookup | – | learned |

51 k tokens

¹ mean of ‖x̂ − x‖² / ‖x‖²  
² never fired
";
    assert_eq!(evaluation().markdown(), want);
    let evil = Table::new("", &[Column::text("a|b")]).with(Row::new("<b>*x*</b>\n_y_")).markdown();
    assert_eq!(evil, "| a\\|b |\n| --- |\n| &lt;b&gt;\\*x\\*&lt;/b&gt;⏎\\_y\\_ |\n");
}

#[test]
fn html_has_tooltips_and_one_best_a_row() {
    let html = evaluation().html();
    assert!(
        html.contains("<span title=\"mean of ‖x̂ − x‖² / ‖x‖²\" style=\"border-bottom:1px dotted")
    );
    assert_eq!(html.matches("font-weight:700").count(), 2, "NMSE and dead, not the tie in L0");
    assert!(html.contains(";font-weight:700\">0.0131</td>"));
    assert_eq!(html.matches("<tr").count(), 5);
    assert_eq!(html.matches("<td").count(), 12);
    let html = html.replace("&#", "");
    for wrong in [":black", ":white;", "#"] {
        assert!(!html.contains(wrong), "{wrong} is illegible in one of the themes");
    }
}

#[test]
fn html_escapes_everything_it_is_given() {
    let evil = "<script>\"&'";
    let html = Table::new(evil, &[Column::text(evil).defined(evil)])
        .with(Row::new(evil).defined(evil).text(evil).shown(1.0, evil))
        .caption(evil)
        .html();
    assert!(!html.contains("<script>"));
    assert!(html.contains("title=\"&lt;script&gt;&quot;&amp;&#39;\""));
}

#[test]
fn best_of_a_column_ignores_what_is_not_finite() {
    let table = Table::new("", &[Column::text("run"), Column::number("NMSE").lowest_is_best()])
        .with(Row::new("a").number(f64::NAN))
        .with(Row::new("b").number(0.2))
        .with(Row::new("c").number(0.1));
    assert_eq!(table.text(), "run    NMSE\n───────────\na       NaN\nb     0.200\nc    *0.100\n");
}

#[test]
fn ragged_wide_and_empty_tables() {
    assert_eq!(Table::new("", &[]).text(), "");
    assert!(Table::new("", &[]).html().contains("<tbody></tbody>"));
    let table = Table::new("", &[Column::text("a")])
        .with(Row::new("日本").text("x"))
        .with(Row::new("line\nbreak"));
    assert_eq!(table.text(), "a\n─────────────\n日本        x\nline⏎break  –\n");
}

#[test]
fn settings_have_their_meaning_behind_them() {
    let table = Table::new("", &[Column::text(""), Column::text("")])
        .with(Row::new("k").defined("active latents").text("16"))
        .with(Row::new("seed").text("0"))
        .with(Row::new("expansion").defined("latents per dimension").text("8, so d_sae = 1024"));
    let want = "\
k          16                  active latents
seed       0
expansion  8, so d_sae = 1024  latents per dimension
";
    assert_eq!(table.text(), want);
    assert!(table.html().contains("<span title=\"active latents\""));
}

#[test]
fn bars_are_filled_by_their_share_and_no_further() {
    let table = Table::new("", &[Column::text("run"), Column::text("done")])
        .with(Row::new("a").bar(0.25))
        .with(Row::new("b").bar(3.0))
        .with(Row::new("c").bar(f64::NAN));
    assert_eq!(
        table.text(),
        "run  done\n───────────────────────\na    ███░░░░░░░ 25.0 %\nb    ██████████ 300.0 %\nc    ░░░░░░░░░░ –\n"
    );
    let html = table.html();
    assert!(
        ["width:25.0%", "width:100.0%", "width:0.0%"].iter().all(|width| html.contains(width)),
        "{html}"
    );
}
