"""The words of operators and of their surroundings, by class.

`text.SentenceText` writes a class in place of each of its words. A word belongs to one class. Capitals stand for classes;
function words that no class contains stand for themselves, and any other word is a `W`.
"""

_CLASSES: dict[str, str] = {
    # verbs and auxiliaries
    "BE": "is|are|'s|'re|am",
    "ISNT": "isn't|aren't|ain't|is not|are not|'s not|'re not|am not",
    "DONOT": "do not|don't|does not|doesn't|am unable to|am not able to",
    "DO": "do|does",
    "CAN": "can|am able to",
    "CANNOT": "cannot|can't|can not",
    "SEE": "see|notice|spot|observe|find|found|count|counted|identify|detect|recognize|recognise|perceive|make out|discern|have got|"
    "distinguish|noticed|spotted|observed|identified|detected|locate|am seeing|am looking at",
    "SEES": "sees|counts|notices|spots|observes|finds|detects|identifies|recognizes|recognises|perceives",
    "SHOW": "show|shows|contain|contains|depict|depicts|has|have|include|includes|feature|features|display|displays|present us with|presents|"
    "portray|portrays|hold|holds|consists of|consist of|captures|illustrates|represents|exhibits",
    "READ": "says|reads|reading|spells|spells out",
    "SEEM": "appear|appears|seem|seems|look|looks|appear to be|appears to be|seem to be|seems to be",
    "MAY": "may|might|could|perhaps|maybe|possibly|probably|likely|presumably|seemingly|apparently",
    "LACK": "lack|lacks|does without|do without|is lacking|are lacking|misses",
    # what makes a clause a condition, a wish, a memory or somebody else's words
    "IF": "if|unless|whether|provided|providing|supposing|assuming|lest|even if|only if|if only|as if|as though|in case|whatever|whichever|"
    "would|'d|should|must|ought|will|'ll|shall|had|were|weren't|had not|might have|could have|"
    "may have|could've|might've|would've|should've|hypothetically|"
    "potentially|theoretically|in theory|conceivable|conceivably|possible|impossible|plausible|wish|hopefully|ideally|otherwise|"
    "unlikely|improbable|probable|supposedly|wherever|whenever",
    "WILL": "will|'ll",
    "WONT": "won't|will not|'ll not|will never",
    "IFNOT": "wouldn't|would not|'d not|shouldn't|should not|mustn't|must not|couldn't|could not|mightn't|might not|"
    "may not|hadn't|shan't|shall not|would never|could never",
    "PAST": "was|wasn't|did|didn't|did not|was not|formerly|once|previously|earlier|originally|initially|ago|anymore|any more|any longer|"
    "removed|erased|deleted|vanished|disappeared|replaced|showed|contained|featured|used to|until|has been|have been|"
    "been|at first|has had|have had|painted over|recolored|recoloured|became|turned|moved away|taken away|lost|overwritten|next time|"
    "last time|yesterday|before that|by now|not yet|went|came|stood|sat|hung|lay|looked|seemed|appeared|held|wore",
    "REPORT": "tell|tells|told|telling|asks|asked|asking|wonders|wondered|wondering|thinks|thought|believes|"
    "believed|doubts|denies|asserts|argues|mentions|mentioned|mentioning|"
    "allege|alleges|alleged|allegedly|guesses|guessed|expects|expected|expecting|hopes|hoped|hoping|fears|feared|"
    "wishes|wished|want|wants|wanted|demands|demanded|requests|requested|searches|searched|searching|seeks|sought|seeking|"
    "hunts|hunting|fail|fails|failed|failing|disagrees|disagreed|agrees|agreed|confirms|confirmed|verifies|verified|insists|insisted|"
    "swears|swore|bets|reckons|presumes|presumed|estimates|estimated|predicts|predicted|anticipates|anticipated|according|contrary|"
    "reportedly|ostensibly|purported|purportedly|so-called|would-be|fake|imaginary|imagined|fictional|nonexistent|non-existent|supposed|"
    "rumored|rumoured|hallucinate|hallucinates|hallucinated|hallucination|mistakes|mistook|misread|misreads|misreport|misreports|confuse|"
    "confuses|confused|confusing|question|questions|queried|queries|prompts|riddle|looking for|look for|looks for|"
    "looked for|instructed|instructs|instruction|instructions|invited|dreams|dreamed|dreamt|pretends|pretended|meant|means that|"
    "mean that|refers|referred|alludes|hints|hinted|invents|invented|speculates|speculated|declares|declared|announces|announced|reported|"
    "reports|writes|wrote|concludes|infers|inferred|convinced|persuaded|suspects|suspected|warns|warned|promises|promised|"
    "proposes|proposed|remembers|remembered|recalls|recalled|forgets|forgot|concedes|admits|admitted|acknowledges|rules out|ruled out|"
    "excludes|excluded|refutes|refuted|rejects|rejected|disputes|contradicts|contradicted|in search of|misled|as for|regarding|concerning|as regards|with regard to|with respect to|speaking of|when it comes to|in response to|look out for|watch out for|keep an eye out for|on the lookout for|supposes|"
    "claiming that|suggested|implied|implies|assumes|assumed|states that|imagines|deduces|deduced|wants to know|"
    "speaks of|talks of|talks about|describes|described|describing|hearsay|legend|gossip|user|somewhere else|elsewhere|mistaken for|misleading|"
    "falsely|wrongly|mistakenly|incorrectly|erroneously|whoever|whosoever|apologies|sorry|oops|jokes|joking|kidding|ironically|"
    "sarcastically|pranked|tricked|trick|unasked|hear|heard|knows|knew|understood|figured|vain|asked-for|queried-about|taken for|"
    "expectation|expectations|deserves|inquires|inquired|enquires|requires|required|needs|needed|"
    "desired|desires|answered|replied|responded|told me|lies that|lied|exclude|presupposes|presupposed|insinuates",
    "SAY": "say|state|think|assume|suggest|assert|believe|argue|suppose|imply|maintain|pretend|insist|report|expect|declare|write|speak of|"
    "talk of|mention|describe|allude|refer|infer|deduce|guess|hope|fear|wonder|ask|swear|bet|reckon|presume|estimate|predict|anticipate|"
    "mean|hold that|speculate|suspect|seek|search|hunt|request|demand|imagine|dream|concede|warn|need|require|promise|propose|"
    "understand|recommend|advise|warrant|guarantee|venture|contend|feel|read that",
    "AGREE": "confirm|agree|know|conclude|note|verify|affirm|admit|acknowledge|attest|certify|remember|recall|keep in mind|bear in mind|"
    "be aware|rest assured|agree with|mind you|report that|can tell|tell you|state that",
    "DENY": "deny|dispute|reject|refute|contradict|disagree|disagree with|object to|disbelieve|take issue with|rule out|challenge|contest",
    "DOUBT": "doubt|denying|disputing|mistaking|doubting|denial|getting around the fact|way around the fact|dispute that",
    "FORGET": "forget|overlook|miss|ignore the fact|miss the fact|overlook the fact|forget the fact|deny the fact",
    "SAIDTO": "said|claimed|stated|argued|maintained|asserted|concluded",
    "DENIED": "denied|disputed|doubted|overlooked|ignored|contested",
    "SAYING": "saying|claiming|stating|thinking|assuming that|suggesting|concluding|asserting|believing|arguing|pretending|insisting|"
    "declaring|imagining|answering|implying|alleging|reporting|supposing that|to say|to state|to claim|to think|to assume|"
    "to suggest|to conclude|to assert|to believe|to argue|to imply|to maintain|to pretend|to insist|to report|to expect|to answer|"
    "to declare|to write|to speak of|to mention|to suppose",
    "CLAIM": "claim|claims|statement|statements|assertion|assertions|idea|assumption|assumptions|suggestion|notion|hypothesis|theory|rumor|"
    "rumour|rumors|rumours|belief|allegation|allegations|proposition|premise|opinion|conjecture|sentence|"
    "accusation|contention|supposition|presumption|argument|implication|suspicion|insinuation|misconception|myth|fiction|illusion|"
    "speculation|prediction|possibility|prompt|objection|hunch|thesis|metadata|alt-text|alt text|"
    "text prompt|claim that|idea that|view that|story that|message that|remark that|lie that|news that|guess that|hope that|"
    "answer that|response that|title that|sense that|feeling that|fear that|concern that|thought that|observation that",
    "ACCOUNT": "description|caption|captions|conclusion|assessment|impression|observation",
    "FALSE": "false|wrong|incorrect|untrue|inaccurate|mistaken|a lie|a mistake|an error|erroneous|a fiction|a misreading|nonsense|"
    "an exaggeration|unfounded|baseless|a misconception|a falsehood|an invention|a fabrication|made up|a fallacy|bogus|fictitious|"
    "unjustified|unwarranted|an illusion|a false claim|a false statement|a myth|misguided|invalid|a hoax|a misunderstanding|"
    "a wrong statement|off the mark|far from true|far from the truth|anything but true|a wrong answer|debunked|dishonest|unsubstantiated",
    "TRUE": "true|correct|accurate|certain|evident|obvious|a fact|apparent|the case|undeniable|undisputed|established|indisputable|valid|"
    "justified|the truth|a given|clearly visible|beyond doubt|beyond question|no secret|plain to see|sure|confident|convincing|warranted|right that",
    "HABIT": "usually|typically|generally|normally|often|sometimes|by definition|in general|as a rule|commonly|always|ordinarily|frequently|"
    "occasionally|tend|tends|per definition|by nature|in principle|regularly|traditionally|mathematically|geometrically|by convention",
    "IMPERATIVE": "consider|add|draw|insert|place|put|remove|delete|erase|replace|paint|color|colour|check|name|list|compare|try|let|start|"
    "begin|take|give|please|visualize|visualise|envision|hide|cover|ignore|disregard|leave|move|swap|change|turn|make|create|sketch|generate|"
    "reply|respond|determine|decide|select|choose|pick|examine|inspect|compute|calculate|beware of|never mind",
    "HYPOTHESIS": "option|options|choice|choices|alternatives|candidates|scenario|hypothetical image|thought experiment|for the sake of argument|for example|for instance|counterfactual|what about|how about",
    "PERSON": "i|we|you",
    "SOMEBODY": "someone|somebody|anyone|anybody|everyone|everybody|others|a reader|a viewer|an observer|"
    "the reader|the viewer|the observer|the questioner|the asker|the author|the annotator|critics|skeptics|observers|viewers|readers",
    # negation, exceptions, contrast
    "NO": "no|zero|no such|not a single|not one|not even one|not a solitary|nary a|not even a single|no single|"
    "absolutely no|not the slightest",
    "NOSIGN": "no such thing as|no sign of|no signs of|no trace of|no traces of|no evidence of|no indication of|no hint of|no proof of|not a trace of",
    "NOT": "not|never",
    "NEITHER": "neither",
    "NOR": "nor",
    "NONE": "none|none at all",
    "NOTHING": "nothing|nothing else|no thing",
    "NOBODY": "nobody|no one|no person",
    "NOWHERE": "nowhere|nowhere to be seen|nowhere to be found|nowhere in sight",
    "WITHOUT": "without|without any|devoid of|free of|free from|minus|bare of|void of|bereft of",
    "MISSING": "missing|absent|lacking|gone",
    "HARDLY": "hardly|hardly any|barely|barely any|scarcely|rarely|seldom|few|far from|by no means|in no way|anything but|everything but|all but|not quite|no longer|"
    "absence|lack of|in the absence of|for want of|dearth of",
    "EXCEPT": "other than|besides|except|except for|excepting|apart from|aside from|save for|save|with the exception of|excluding|barring|"
    "bar|beyond|in addition to|with the exclusion of|outside of",
    "ASIDE": "not counting|leaving|disregarding|ignoring|discounting|not including|setting",
    "INSTEAD": "instead of|rather than|as opposed to|in place of|in lieu of",
    "UNLIKE": "unlike|compared with|compared to|in comparison with|in comparison to|next to other|in contrast to|in contrast with|as distinct from|contrary to|despite|in spite of|notwithstanding",
    "ONLY": "only|just|merely|simply|solely|exclusively|purely",
    # amounts
    "×": "x|×",
    "CHECKED": "✓|✔|✅",
    "CROSSED": "✗|✘|❌",
    "ALL": "all|every|each|both|everything|every single|each and every|the entirety of",
    "MOST": "most|most of|majority|the majority of|half|half of|half the|percent|%|third of|a third of|two thirds of|a minority of|minority|"
    "many of|some of|several of|a few of|a couple of the|part of",
    "TIMES": "twice|thrice|times|half as|double|triple|treble|outnumber|outnumbers|outnumbered|exceed|exceeds|surpass|surpasses|total of",
    "RESPECTIVELY": "respectively|in that order",
    "MORE": "more",
    "FEWER": "fewer|less",
    "LEAST": "≥|>|at least|no fewer than|no less than|not fewer than|not less than|a minimum of|minimum of|more than|upwards of|in excess of|"
    "well over",
    "UPTO": "≤|<|at most|no more than|not more than|up to|a maximum of|maximum of|fewer than|less than|not over|not exceeding",
    "ORMORE": "+|or more|at minimum|plus",
    "ORFEWER": "or fewer|or less|tops|at maximum|max|at the most|maximum",
    "ABOUT": "~|≈|about|roughly|approximately|nearly|almost|some|circa|an estimated|somewhere around|more or less|about some|"
    "in the region of|an average of",
    "ORSO": "or so|give or take|approximately speaking",
    "MANY": "several|a few|a couple of|a pair of|multiple|various|numerous|a number of|a lot of|lots of|plenty of",
    "OTHER": "other|another|additional|further|extra|remaining|rest|else|second|third|fourth|fifth|sixth|last|one more|"
    "two more|three more|next one",
    "EITHER": "either",
    "FORMER": "former|latter",
    "NUMBER": "number|total number|amount|quantity|tally|the number|the total number",
    # nouns
    "IMAGE": "image|picture|photo|photograph|scene|drawing|frame|illustration|shot|figure|graphic|canvas|composition|rendering|pic|snapshot|"
    "artwork|screenshot|diagram|photography|images|pictures|photos|photographs|scenes|drawings|frames|illustrations|shots",
    "GIVEN": "whole|entire|given|provided|attached",
    "PREVIOUS": "previous|next|following|preceding|later|similar|original|older|alternative|separate|initial|edited|unedited|prior|future|"
    "different|hypothetical",
    "SCENE": "room|street|kitchen|bathroom|bedroom|living room|dining room|road|beach|field|sky|yard|garden|city|town|village|market|"
    "restaurant|office|forest|lake|sea|ocean|parking lot|playground|harbor|station|airport|stadium|city street|background",
    "SHAPE": "shape|shapes|object|objects|thing|things|figures|form|forms|element|elements|item|items",
    "THEM": "of them|of these|of those|of which|of whom",
    "REGION": "left|right|top|bottom|upper|lower|leftmost|rightmost|topmost|bottommost|lowest|highest|uppermost|center|centre|middle|corner|"
    "corners|row|rows|column|columns|side|edge|quadrant|half of the image|area|foreground|margin|border|diagonal|left-hand|"
    "right-hand|central|first|far left|far right|cell|grid|position|location|upper-left|upper-right|lower-left|"
    "lower-right|top-left|top-right|bottom-left|bottom-right|bottom-most|top-most|left-most|right-most",
    "BESIDE": "left of|right of|above|below|underneath|beneath|next to|between|in between|beside|near|behind|in front of|adjacent to|"
    "alongside|on top of|by|inside|inside of|within|to the left of|to the right of|on the left of|on the right of",
    "OVER": "over",
    "UNDER": "under",
    "AROUND": "around|close to",
    "VISIBLE": "visible|present|shown|seen|depicted|displayed|in evidence|in sight|in view|included|pictured|drawn|to be seen|to be found|"
    "portrayed|detectable|discernible|recognizable|recognisable|noticeable|to be found anywhere|around here",
    "HERE": "here|at all|whatsoever|anywhere|as well|too|though|in it|in there|in particular|in the first place|for that matter|in my view|"
    "among them|whatever so|to be honest|on display",
    # adverbials that do not change what a clause asserts; they are left out of the text
    "": "please|also|clearly|really|actually|indeed|definitely|certainly|plainly|obviously|completely|entirely|totally|quite|very|even|still|evidently|"
    "absolutely|therefore|thus|easily|in fact|factually|patently|demonstrably|now|currently|nevertheless|nonetheless|already|directly|surely|"
    "truly|altogether|of course|in addition|additionally|moreover|furthermore|overall|in total|in short|in summary|finally|firstly|secondly|"
    "hence|precisely|surprisingly|perhaps surprisingly|interestingly|notably|on closer inspection|looking closely|looking again|looking closer|"
    "as you can see|as far as i can see|as far as i can tell|as expected|at present|at the moment|hmm|ah|oh|wow|ok|okay|well|after all|"
    "at first glance|at second glance|in any case|in the end|in conclusion|to sum up|all in all|yes|by the way|to be precise|to be exact|"
    "to be clear|namely|in other words|for one|for one thing|fully|perfectly|strictly|literally|safely|immediately|fairly|so far|"
    "at second sight|upon inspection|in reality|on the one hand|on the other hand|instead|luckily|fortunately|unfortunately|sadly|simply put|"
    "accordingly|as a result|in my opinion|rather|somewhat|exactly|however|definitively|as i see it|as the image shows",
}
CLASSES: dict[str, str] = {phrase: name for name, phrases in _CLASSES.items() for phrase in phrases.split("|")}
"""Word or phrase in lower case to its class; the class "" is left out of the text."""
LONGEST: dict[str, int] = {}
"""First word of each phrase, with the number of words of the longest phrase that starts with it."""
for _phrase in CLASSES:
    _words = _phrase.split(" ")
    LONGEST[_words[0]] = max(len(_words), LONGEST.get(_words[0], 1))

FRAGMENTS: dict[str, str] = {
    "N": r"(?:Na?p?|B|SCENE)",
    "BESIDE": r"(?:BESIDE|OVER|UNDER|AROUND)",
    "A": r"(?:A|B)",
    "NO": r"(?:NO|NOT (?:a|an|any))",
    "DET": r"(?:the|a|an|any|SOMEBODY|ABOUT|this|that|these|those|its|their|his|her|my|your|our|such|ALL|MANY|OTHER|NUM|ONE|of)",
    "NP": r"(?:<DET> )*(?:(?:W|A) )?(?:Na?p?|B|SCENE|SHAPE|W|IMAGE|ONE|CLAIM|ACCOUNT|NUMBER)",
    "JOINT": r"(?:, and|, or|, nor|,|and|or|NOR|nor|plus|as_well_as|&)",
    "NPS": r"<NP>(?: <JOINT> (?:NO )?<NP>)*",
    "THE": r"(?:the|this|that|its|his|her|their)",
    "ISNT": r"(?:ISNT|BE NOT)",
    "DONT": r"(?:DONOT|CANNOT|DO NOT|CAN NOT)",
    "PLACE": r"(?:(?:on|in|at|to|from|toward|towards|near) )?(?:(?:the|a|an|its|his|her|their|one|ONE of the) )?(?:W )?REGION(?: REGION)*(?: of <NP>)?",
    "PHRASE": r"(?:HERE|VISIBLE|<PLACE>|(?:on|in|at|with|from|of|along|across|to|<BESIDE>) (?:<NP>|it|them)(?: and <NP>)?)",
    "TAIL": r"(?:(?: ,)? <PHRASE>)*",
    "HERE": r"(?:(?: ,)? (?:HERE|VISIBLE))*",
    "EXISTS": r"(?:there (?:BE|W)(?: ONLY)?|PERSON (?:CAN )?SEE|(?:the|this|that|my|our|a)? ?IMAGE SHOW|it SHOW|<NP> SHOW)",
}
"""Fragments of patterns; see `text.compile_pattern`."""
