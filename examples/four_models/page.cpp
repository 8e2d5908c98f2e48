// SPDX-License-Identifier: MIT
#include "examples/four_models/page.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <system_error>

#include <fmt/format.h>

#include "examples/common/text.hpp"
#include "examples/four_models/embedded.hpp"
#include "examples/four_models/figures.hpp"
#include "examples/four_models/report.hpp"
#include "examples/four_models/template.hpp"
#include "examples/four_models/verdict.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/io/file.hpp"

namespace examples {

namespace {

using Fields = std::vector<std::string>;

constexpr std::size_t shown_disagreements = 40, shown_characters = 600;

// The fields of a CSV file of a run, of which the first record must be `head`.
std::vector<Fields> records(const std::string& text, const std::string& name, const Fields& head) {
  lowbit::io::CsvReader reader(text, name);
  std::vector<Fields> result;
  Fields fields;
  if (!reader.next(fields) || fields != head) reader.fail(1, "expected the columns of the models of results.json");
  while (reader.next(fields)) {
    if (fields.size() != head.size())
      reader.fail(reader.line(), fmt::format("expected {} fields, found {}", head.size(), fields.size()));
    result.push_back(fields);
  }
  return result;
}
template <class Number>
Number number_of(const std::string& field, const char* file) {
  Number value{};
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size())
    lowbit::raise<lowbit::FormatError>(std::string(file) + ": expected a number, found \"" + field + "\"");
  return value;
}

struct RowPredictions {
  std::size_t row = 0, label = 0;
  std::vector<std::size_t> predicted;  // by model
};
std::vector<RowPredictions> read_predictions(const std::string& text, const Results& r) {
  Fields head = {"row", "true"};
  for (const ModelResult& m : r.models) {
    head.push_back(std::string(m.kind->id) + ".pred");
    for (std::size_t c = 0; c < r.class_names.size(); ++c) head.push_back(fmt::format("{}.logit_{}", m.kind->id, c));
  }
  constexpr const char* file = "predictions.csv";
  std::vector<RowPredictions> result;
  for (const Fields& fields : records(text, file, head)) {
    RowPredictions said{number_of<std::size_t>(fields[0], file), number_of<std::size_t>(fields[1], file), {}};
    for (std::size_t m = 0; m < r.models.size(); ++m)
      said.predicted.push_back(number_of<std::size_t>(fields[2 + m * (r.class_names.size() + 1)], file));
    for (const std::size_t c : said.predicted)
      if (c >= r.class_names.size() || said.label >= r.class_names.size())
        lowbit::raise<lowbit::FormatError>(
            fmt::format("{}: row {}: expected classes below {}", file, said.row, r.class_names.size()));
    result.push_back(std::move(said));
  }
  return result;
}

LatencyRows read_latency(const std::string& text, const Results& r) {
  Fields head = {"row", "tokens", "repetition"};
  for (const ModelResult& m : r.models) head.push_back(std::string(m.kind->id) + ".ms");
  constexpr const char* file = "latency.csv";
  const std::vector<Fields> lines = records(text, file, head);
  LatencyRows latency;
  latency.row_ms.resize(r.models.size());
  for (std::size_t i = 0; i < lines.size();) {
    std::size_t end = i;
    while (end < lines.size() && lines[end][0] == lines[i][0]) ++end;
    latency.tokens.push_back(number_of<double>(lines[i][1], file));
    for (std::size_t m = 0; m < r.models.size(); ++m) {
      std::vector<double> times;
      for (std::size_t t = i; t < end; ++t) times.push_back(number_of<double>(lines[t][3 + m], file));
      latency.row_ms[m].push_back(summary_of(std::move(times)).median);
    }
    i = end;
  }
  return latency;
}

// Pieces of the page.

std::string paragraph(std::string_view words, std::string_view style = {}) {
  return fmt::format("<p{}>{}</p>\n", style.empty() ? "" : fmt::format(" class=\"{}\"", style), xml_escaped(words));
}
// A name for links: letters, digits and dashes.
std::string slug(std::string_view title) {
  std::string result;
  for (const char c : title)
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (!result.empty() && result.back() != '-')
      result += '-';
  while (result.ends_with('-')) result.pop_back();
  return result;
}
std::string one_line(std::string_view text) {
  std::string result(text);
  std::replace(result.begin(), result.end(), '\n', ' ');
  return result;
}

std::string html(const Table& t, const std::string& id) {
  const auto style_of = [&](std::size_t column) {
    return column < t.left_columns ? " class=\"left\"" : t.head[column].starts_with("paper") ? " class=\"paper\"" : "";
  };
  std::string text = fmt::format(
      "<div class=\"table\"><h3>{0}</h3>\n<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{0}\">\n"
      "<table id=\"{1}\" aria-label=\"{0}\">\n<thead><tr>",
      xml_escaped(t.title), id);
  for (std::size_t c = 0; c < t.head.size(); ++c)
    text += fmt::format("<th scope=\"col\"{}>{}</th>", style_of(c), xml_escaped(one_line(t.head[c])));
  text += "</tr></thead>\n<tbody>\n";
  for (const auto& row : t.rows) {
    text += "<tr>";
    for (std::size_t c = 0; c < row.size(); ++c)
      text += c == 0 ? fmt::format("<th scope=\"row\" class=\"left\">{}</th>", xml_escaped(row[c]))
                     : fmt::format("<td{}>{}</td>", style_of(c), xml_escaped(row[c]));
    text += "</tr>\n";
  }
  text += "</tbody>\n</table>\n</div>\n";
  if (!t.note.empty()) text += paragraph(one_line(t.note), "soft");
  return text + "</div>\n";
}
// Tables whose names may be alike.
std::string html(const std::vector<Table>& tables, const std::string& prefix) {
  std::string text;
  std::map<std::string, int> seen;
  for (const Table& t : tables) {
    std::string id = prefix + slug(t.title);
    if (const int again = seen[id]++; again != 0) id += "-" + std::to_string(again + 1);
    text += html(t, id);
  }
  return text;
}

std::string html(const std::vector<Figure>& figures) {
  std::string text;
  for (const Figure& f : figures) {
    const bool many = f.drawings.size() > 1;
    text += fmt::format("<figure id=\"{}\"{}>\n<h3>{}</h3>\n{}", f.name, many ? " class=\"wide\"" : "", xml_escaped(f.title),
                        many ? "<div class=\"maps\">\n" : "");
    for (std::size_t i = 0; i < f.drawings.size(); ++i) text += f.drawings[i].element(fmt::format("{}-{}", f.name, i + 1));
    text += fmt::format("{}<figcaption>{}</figcaption>\n</figure>\n", many ? "</div>\n" : "", xml_escaped(f.caption));
  }
  return text;
}

// Escaped, with its line breaks.
std::string multi_line(std::string_view text) {
  std::string result;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    result += (begin == 0 ? "" : "\n") + xml_escaped(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return result;
}

std::string tag(std::string_view words, const char* kind) {
  return fmt::format("<span class=\"tag {}\">{}</span>", kind, xml_escaped(words));
}

std::string card(const Verdict& v) {
  std::string accuracy;
  if (!v.accuracy.empty()) {
    const char* word = v.same_rows                      ? "same rows"
                       : v.finding == Finding::noise    ? "noise"
                       : v.finding == Finding::doubtful ? "doubtful"
                                                        : "real";
    const char* kind = v.finding == Finding::noise ? "open" : v.worse ? "bad" : "good";
    accuracy = fmt::format("<dt>Accuracy</dt><dd>{} {}</dd>\n", xml_escaped(v.accuracy.substr(0, v.accuracy.find(" of "))),
                           tag(word, kind));
  }
  return fmt::format("<article class=\"card\">\n<h3>{}</h3>\n<dl>\n<dt>Memory</dt><dd>{}</dd>\n{}{}</dl>\n{}</article>\n",
                     xml_escaped(v.name), xml_escaped(v.size),
                     v.speed.empty() ? "" : fmt::format("<dt>Speed</dt><dd>{}</dd>\n", xml_escaped(v.speed)), accuracy,
                     paragraph(v.sentence));
}

std::string claims_html(const std::vector<Claim>& all) {
  if (all.empty()) return "";
  std::string text =
      "<div class=\"table claims words\"><table>\n<thead><tr><th scope=\"col\">Section</th><th scope=\"col\">The paper says</th>"
      "<th scope=\"col\">Here</th><th scope=\"col\">This run found</th></tr></thead>\n<tbody>\n";
  for (const Claim& c : all) {
    const char* kind = c.outcome == Claim::Outcome::holds ? "good" : c.outcome == Claim::Outcome::fails ? "bad" : "open";
    text += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n", xml_escaped(c.section), xml_escaped(c.text),
                        tag(outcome_name(c.outcome), kind), xml_escaped(c.finding));
  }
  return text + "</tbody>\n</table></div>\n";
}

std::string recommendations_html(const std::vector<Recommendation>& all) {
  if (all.empty()) return "";
  std::string text = "<div class=\"table words\"><table>\n<tbody>\n";
  for (const Recommendation& r : all)
    text += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", xml_escaped(r.need), xml_escaped(r.choice));
  return text + "</tbody>\n</table></div>\n" +
         paragraph(
             "Computed from the numbers above, among models whose accuracy is not worse than FP32's by more than chance explains.",
             "soft");
}

// The first characters of a text, whole ones.
std::string beginning(const std::string& text) {
  if (width_of(text) <= shown_characters) return text;
  return text.substr(0, prefix_bytes(text, shown_characters)) + "\xE2\x80\xA6";
}

std::string disagreements_html(const Results& r, const std::vector<RowPredictions>& said, const Texts& texts) {
  std::vector<const RowPredictions*> rows;
  for (const RowPredictions& s : said)
    if (std::adjacent_find(s.predicted.begin(), s.predicted.end(), std::not_equal_to<>()) != s.predicted.end()) rows.push_back(&s);
  if (r.models.size() < 2) return "";
  std::string text = paragraph(
      fmt::format("On {} of {} rows the models do not all say the same class{}. Rows count from 0.", rows.size(), said.size(),
                  rows.size() > shown_disagreements ? fmt::format("; the first {} follow", shown_disagreements) : ""));
  std::string why = texts.why_none;
  for (const RowPredictions* s : rows)
    if (const auto found = texts.rows.find(s->row); why.empty() && (found == texts.rows.end() || found->second.label != s->label))
      why = "the data are not those that the run read";
  if (!why.empty() && !rows.empty()) text += paragraph("Without their texts: " + why + ".", "soft");
  if (rows.empty()) return text;
  text += "<ol class=\"disagree\">\n";
  for (std::size_t i = 0; i < std::min(rows.size(), shown_disagreements); ++i) {
    const RowPredictions& s = *rows[i];
    text += fmt::format("<li><p class=\"soft\">Row {}, true class {}</p>\n", s.row, xml_escaped(r.class_names[s.label]));
    if (why.empty()) text += paragraph(beginning(texts.rows.at(s.row).text));
    for (std::size_t c = 0; c < r.class_names.size(); ++c) {
      std::string names;
      for (std::size_t m = 0; m < s.predicted.size(); ++m)
        if (s.predicted[m] == c) names += (names.empty() ? "" : ", ") + r.models[m].identity.name;
      if (!names.empty())
        text += fmt::format("<div class=\"said\">{} <span>{}</span></div>\n", tag(r.class_names[c], c == s.label ? "good" : "bad"),
                            xml_escaped(names));
    }
    text += "</li>\n";
  }
  return text + "</ol>\n";
}

bool is_of_paper(const Table& t) { return t.title.starts_with("Table "); }

// One option to a line.
std::string command_lines(std::string command) {
  for (std::size_t at = command.find(" --"); at != command.npos; at = command.find(" --", at + 8))
    command.replace(at, 1, " \\\n  ");
  return command;
}

std::string page(const RunResults& run, const std::vector<Figure>& figures, const std::vector<Figure>& synthetic,
                 const std::vector<RowPredictions>& said, const Texts& texts) {
  const Results& r = run.main;
  const Section section = comparison_section(r);
  std::vector<Table> papers, others;
  for (const Table& t : section.tables) (is_of_paper(t) ? papers : others).push_back(t);
  std::string cards, warnings, how;
  std::vector<std::string> warned = noise_warnings(r);
  for (const Verdict& v : verdicts(r)) {
    cards += card(v);
    warned.insert(warned.end(), v.warnings.begin(), v.warnings.end());
  }
  for (const std::string& note : r.notes)
    if (note.starts_with("WARNING: ")) warned.push_back(note.substr(9));
  for (const std::string& w : warned) warnings += paragraph(w);
  for (const std::string& p : circumstances(r)) how += paragraph(p);
  for (const std::string& note : r.notes)
    if (!note.starts_with("WARNING: ")) how += paragraph(note);
  std::string synthetic_html;
  if (run.synthetic) {
    const Section s = synthetic_section(*run.synthetic);
    for (const std::string& p : s.paragraphs)
      if (!p.starts_with("Settings: ")) synthetic_html += paragraph(p);
    synthetic_html += "<div class=\"figures\">\n" + html(synthetic) + "</div>\n" + html(s.tables, "synthetic-");
  }
  return filled(
      report_template,
      {{"title", xml_escaped(section.title)},
       {"machine", xml_escaped(on_machine(r.machine))},
       {"date", xml_escaped(r.machine.date)},
       {"data", xml_escaped(fmt::format("{} rows of {}", r.rows_done, std::filesystem::path(r.dataset).filename().string()))},
       {"figures_css", std::string(figures_css)},
       {"interrupted", r.interrupted ? fmt::format("Interrupted: all of this is of the {} of {} rows that every model had seen.",
                                                   r.rows_done, r.rows)
                                     : ""},
       {"summary", xml_escaped(summary_sentence(r))},
       {"warnings", warnings},
       {"cards", cards},
       {"rows", std::to_string(r.rows_done)},
       {"recommendations", recommendations_html(recommendations(r))},
       {"paper_note", xml_escaped(r.paper_shape() ? "Our model has the paper's shape, and was trained on AG News alone."
                                                  : "The models of this run are smaller than the paper's GPT-2 small.")},
       {"paper_tables", html(papers, "")},
       {"figures", html(figures)},
       {"disagreements", disagreements_html(r, said, texts)},
       {"claims", claims_html(claims(r))},
       {"synthetic", synthetic_html},
       {"how", how},
       {"command", multi_line(command_lines(r.command))},
       {"other_tables", html(others, "")},
       {"version", xml_escaped(r.version)}});
}

std::string markdown(const std::vector<Figure>& figures) {
  std::string text;
  for (const Figure& f : figures)
    text += fmt::format("### {}\n\n![{}](figures/{}.svg)\n\n{}\n\n", markdown_escaped(f.title), markdown_escaped(f.title), f.name,
                        markdown_escaped(f.caption));
  return text;
}

}  // namespace

RunFiles read_run(const std::filesystem::path& folder) {
  using lowbit::io::read_text;
  return {read_text(folder / "results.json"), read_text(folder / "predictions.csv"), read_text(folder / "latency.csv")};
}

Texts read_texts(const std::filesystem::path& data, const Results& r, bool must) {
  Texts texts;
  std::error_code ignored;
  if (!must && !std::filesystem::is_regular_file(data, ignored)) {
    texts.why_none = std::filesystem::exists(data, ignored) ? data.string() + " is a pipe, which was read once"
                                                            : data.string() + " is not there any more";
    return texts;
  }
  try {
    const auto rows = lowbit::io::read_news(data, static_cast<int>(r.class_names.size()));
    for (std::size_t i = 0; i < rows.size(); ++i)
      texts.rows[i] = {static_cast<std::size_t>(rows[i].label), rows[i].title + " " + rows[i].description};
  } catch (const lowbit::Error& error) {
    if (must) throw;
    texts.why_none = error.what();
  }
  return texts;
}

std::vector<OutputFile> all_files(const RunFiles& files, const Texts& texts) {
  const RunResults run = parse_results(files.results, "results.json");
  const std::vector<RowPredictions> said = read_predictions(files.predictions, run.main);
  const LatencyRows latency = read_latency(files.latency, run.main);
  const std::vector<Figure> figures = figures_of(run.main, latency);
  const std::vector<Figure> synthetic = run.synthetic ? synthetic_figures_of(*run.synthetic) : std::vector<Figure>();

  std::string report = as_markdown(comparison_section(run.main)) + markdown(figures);
  if (const Section s = claims_section(run.main); !s.paragraphs.empty()) report += as_markdown(s);
  if (run.synthetic) report += as_markdown(synthetic_section(*run.synthetic)) + markdown(synthetic);

  std::vector<OutputFile> result = {{"results.json", files.results},
                                    {"predictions.csv", files.predictions},
                                    {"latency.csv", files.latency},
                                    {"report.html", page(run, figures, synthetic, said, texts)},
                                    {"report.md", report}};
  for (const std::vector<Figure>* some : {&figures, &synthetic})
    for (const Figure& f : *some) result.push_back({"figures/" + f.name + ".svg", f.whole().file()});
  return result;
}

}  // namespace examples
