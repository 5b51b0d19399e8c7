//! A picture that a cell shows and a file keeps.

use std::path::Path;

use super::{escape, show};
use crate::base::error::{Error, Result};
use crate::base::files;

/// The text colour of a saved figure; in a notebook it is the page's own.
const INK: &str = "#1a1a1a";
const PAPER: &str = "#ffffff";

/// Pages that are dark: JupyterLab's (and those nbconvert writes), and VS Code's.
const DARK_PAGES: [&str; 2] = ["[data-jp-theme-light=\"false\"]", ".vscode-dark"];

/// A drawn figure: an SVG picture and a line of text that says what it shows.
///
/// A notebook cell shows the file that [`save`](Figure::save) writes, dark text on a white ground,
/// and on a dark page its negative.
#[derive(Clone, PartialEq)]
pub struct Figure {
    svg: String,
    summary: String,
    width: u32,
    height: u32,
}

impl Figure {
    /// Wraps SVG elements drawn on `width` × `height` pixels; `currentColor` in them is the page's
    /// text colour.
    pub(crate) fn from_elements(elements: &str, width: u32, height: u32, summary: &str) -> Figure {
        let label = escape(summary);
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{label}\" font-family=\"system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',Helvetica,Arial,sans-serif\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\" fill=\"currentColor\" style=\"max-width:100%;height:auto\">\n{elements}</svg>\n"
        );
        Figure { svg, summary: summary.to_owned(), width, height }
    }

    /// The picture as SVG, for a page whose text colour it takes.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The picture as an HTML image that holds the whole file.
    ///
    /// Not the SVG elements themselves: pages that do not trust a notebook (JupyterLab before its
    /// cells are run, GitHub) take those away and leave their text, and keep an image. They take
    /// the style sheet away too, and show white paper on a dark page.
    pub fn html(&self) -> String {
        let dark = DARK_PAGES.map(|page| format!("{page} .tsae-figure")).join(",");
        format!(
            // Turned by half the circle of hues, the negative of a colour is that colour again,
            // lighter or darker; 93 % is not quite black.
            "<style>{dark}{{filter:invert(93%) hue-rotate(180deg)}}</style>\
             <img class=\"tsae-figure\" alt=\"{}\" width=\"{}\" height=\"{}\" style=\"max-width:100%;height:auto\" src=\"data:image/svg+xml;base64,{}\">",
            escape(&self.summary),
            self.width,
            self.height,
            base64(self.standalone().as_bytes())
        )
    }

    /// What the figure shows, in one line.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The picture as an SVG file of its own: white ground, dark text, no reference to a page
    /// around it.
    pub fn standalone(&self) -> String {
        let ground = format!(
            ">\n<rect width=\"{}\" height=\"{}\" fill=\"{PAPER}\" stroke=\"none\"/>\n",
            self.width, self.height
        );
        self.svg.replacen(">\n", &ground, 1).replace("currentColor", INK)
    }

    /// Writes the picture to `path`, a name that ends in `.svg`. The file is replaced at once or
    /// not at all.
    ///
    /// # Errors
    /// [`Error::Figure`] if the name ends otherwise; [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("svg")) {
            return Err(Error::Figure(format!(
                "{}: figures are written as SVG, to a name that ends in .svg",
                path.display()
            )));
        }
        files::write_atomic(path, |out| out.write_all(self.standalone().as_bytes()))
    }

    /// Shows the figure in a notebook cell.
    pub fn evcxr_display(&self) {
        show(&self.html(), &self.summary);
    }
}

impl std::fmt::Debug for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.summary)
    }
}

/// RFC 4648, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits =
            (0..3).fold(0, |bits, i| bits << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure::from_elements(
            "<text x=\"1\" y=\"2\" fill=\"currentColor\">a</text>\n",
            80,
            40,
            "Figure: \"a\" < b",
        )
    }

    #[test]
    fn takes_the_colour_of_the_page_and_scales_with_it() {
        let svg = figure().svg().to_owned();
        assert!(
            svg.contains("viewBox=\"0 0 80 40\"")
                && svg.contains("max-width:100%")
                && svg.contains("currentColor")
        );
        assert!(svg.contains("aria-label=\"Figure: &quot;a&quot; &lt; b\""));
        assert!(!svg.contains("id="), "ids of several figures on a page would clash");
    }

    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, want) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), want);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn the_html_is_one_image_and_nothing_that_a_sanitiser_turns_into_text() {
        let html = figure().html();
        assert!(html.contains("alt=\"Figure: &quot;a&quot; &lt; b\" width=\"80\""), "{html}");
        assert!(html.contains(&format!(
            "src=\"data:image/svg+xml;base64,{}\"",
            base64(figure().standalone().as_bytes())
        )));
        let tags: Vec<&str> =
            html.split('<').skip(1).filter_map(|tag| tag.split([' ', '>']).next()).collect();
        assert_eq!(tags, ["style", "/style", "img"]);
    }

    #[test]
    fn a_saved_figure_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.svg");
        figure().save(&path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(!svg.contains("currentColor") && !svg.contains("var("));
        assert!(svg.contains("<rect width=\"80\" height=\"40\" fill=\"#ffffff\""));
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn says_what_is_wrong_with_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let message = figure().save(folder.path().join("f.png")).unwrap_err().to_string();
        assert!(message.contains("f.png") && message.contains(".svg"), "{message}");
        let message = figure().save(folder.path().join("no/f.svg")).unwrap_err().to_string();
        assert!(
            message.starts_with("could not create ") && message.contains("no/f.svg"),
            "{message}"
        );
    }
}
